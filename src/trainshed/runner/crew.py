"""How the runners of one gang act as one: a barrier after preparation, one verdict, one outcome.

The runner of the first node coordinates. Members connect to it and say ``{"prepared": true}`` after their preparation;
when all have, it sends ``{"start": facts}``, and everybody makes the same plan from the same facts. Members report the
ends of their processes and ranks, and ``{"warned": true}`` before these are warned; whoever meets an end of its own (a
failed preparation, a stop) sends ``{"outcome": ...}``. The coordinator decides and sends ``{"end": outcome, "grace":
seconds}``; a member whose volumes cannot keep what was written says ``{"unwritten": reason}``, and one that has ended
its processes and has its outcome on disk answers ``{"gone": true}``. The coordinator's own outcome comes last: when it
is there, nothing of the attempt lives anywhere that can be reached.

A gang of one node has no sockets.
"""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from typing import Any, Protocol

from trainshed.resources.reasons import ReasonCode
from trainshed.runner.failure import FAILED, SUCCEEDED, AttemptEnded, lost
from trainshed.runner.lines import ConnectionLost, Line
from trainshed.runner.node import Node
from trainshed.runner.spec import Outcome
from trainshed.runner.supervise import Supervisor, Wait
from trainshed.runner.switchboard import Switchboard
from trainshed.toolkits.launch import LaunchPlan
from trainshed.volumes import FLUSH_SECONDS, managed

#: Seconds for which a member tries to reach the coordinator: the runners of a gang do not start at one instant.
CONNECT_SECONDS = 30.0
#: Seconds beyond the grace after which a runner that does not answer at the end is no longer waited for.
SETTLE_SECONDS = 10.0


class Crew(Protocol):
    """What an attempt needs of its gang, from any node."""

    def gather(self) -> dict[str, Any]:
        """Wait until all nodes are prepared; members get the facts that the plan is made of from the coordinator."""
        ...

    def begin(self, plan: LaunchPlan) -> None:
        """The plan is known; processes start now."""
        ...

    def warned(self) -> None:
        """This node's processes are about to be warned: they may leave one after another, with any exit code."""
        ...

    def process_ended(self, role: str, index: int, code: int) -> None:
        """A process of this node ended. May raise AttemptEnded."""
        ...

    def rank_ended(self, rank: int, code: int, asked: bool) -> None:
        """A rank on this node said how it ended, and whether it had been asked to. May raise AttemptEnded."""
        ...

    def rank_began(self, rank: int) -> None:
        """A rank that MPI or torchrun starts began on this node, perhaps once more."""
        ...

    def daemon_ended(self, code: int) -> None:
        """MPI's daemon on this node ended. May raise AttemptEnded."""
        ...

    def announce(self, outcome: Outcome, grace: float) -> None:
        """This node's part is over; the others learn it before it ends its processes."""
        ...

    def not_written(self, reason: dict[str, Any]) -> None:
        """A volume of this node could not keep what was written to it: the attempt has not succeeded."""
        ...

    def settle(self, outcome: Outcome, grace: float) -> Outcome:
        """This node's processes are gone: agree on the outcome of all."""
        ...

    def done(self) -> None:
        """This node's outcome is on disk."""
        ...


class Solo:
    """A gang of one node, and what the coordinator does for its own node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._supervisor: Supervisor | None = None
        #: The outcome is decided: what ranks and processes say while they are ended changes nothing.
        self._over = False
        self._not_written: dict[str, Any] | None = None

    def gather(self) -> dict[str, Any]:
        return {}

    def begin(self, plan: LaunchPlan) -> None:
        self._supervisor = Supervisor(plan, self._node.spec.hosts)

    def warned(self) -> None:
        assert self._supervisor is not None
        self._supervisor.warned()

    def process_ended(self, role: str, index: int, code: int) -> None:
        self._heard_process(0, role, index, code)

    def rank_ended(self, rank: int, code: int, asked: bool) -> None:
        self._heard_rank(0, rank, code, asked)

    def rank_began(self, rank: int) -> None:
        self._heard_began(0, rank)

    def daemon_ended(self, code: int) -> None:
        self._heard_daemon(0, code)

    def announce(self, outcome: Outcome, grace: float) -> None:
        self._over = True

    def not_written(self, reason: dict[str, Any]) -> None:
        self._not_written = self._not_written or reason

    def settle(self, outcome: Outcome, grace: float) -> Outcome:
        if self._not_written is not None and outcome.result == SUCCEEDED:
            return Outcome(FAILED, None, self._not_written)
        return outcome

    def done(self) -> None:
        """Nobody waits."""

    def _heard_process(self, host: int, role: str, index: int, code: int) -> None:
        assert self._supervisor is not None
        if not self._over:
            self._wait(self._supervisor.process_ended(host, role, index, code))

    def _heard_rank(self, host: int, rank: int, code: int, asked: bool) -> None:
        assert self._supervisor is not None
        if not self._over:
            self._wait(self._supervisor.rank_ended(rank, host, code, asked=asked))

    def _heard_began(self, host: int, rank: int) -> None:
        assert self._supervisor is not None
        self._supervisor.rank_began(rank, host)

    def _heard_daemon(self, host: int, code: int) -> None:
        assert self._supervisor is not None
        if not self._over:
            self._wait(self._supervisor.daemon_ended(host, code))

    def _wait(self, wait: Wait | None) -> None:
        def time_is_up() -> None:
            if wait is not None and not self._over:
                wait.then()

        if wait is not None:
            self._node.loop.after(wait.seconds, time_is_up)


class Coordinator(Solo):
    """The runner of the first node."""

    def __init__(self, node: Node, switchboard: Switchboard) -> None:
        super().__init__(node)
        self._lines: dict[int, Line] = {}
        self._prepared: set[int] = set()
        self._gone: set[int] = set()
        self._ending: dict[str, Any] | None = None
        switchboard.take("member", self._joined)

    def gather(self) -> dict[str, Any]:
        self._node.log.write("waiting until all nodes are prepared")
        everybody = set(range(1, len(self._node.spec.hosts)))

        def too_late() -> None:
            absent = sorted(everybody - self._lines.keys())
            if absent:
                raise self._lost(absent[0], f"did not join within {CONNECT_SECONDS:g} s")

        timer = self._node.loop.after(CONNECT_SECONDS, too_late)
        self._node.loop.run_until(lambda: self._prepared >= everybody)
        timer.cancel()
        return {}

    def start_members(self, facts: dict[str, Any]) -> None:
        """Send the facts of the gang: everybody plans and starts."""
        for index in list(self._lines):
            self._send(index, {"start": facts})

    def announce(self, outcome: Outcome, grace: float) -> None:
        super().announce(outcome, grace)
        self._ending = {"end": outcome.to_dict(), "grace": grace}
        for index in list(self._lines):
            self._send(index, self._ending)

    def settle(self, outcome: Outcome, grace: float) -> Outcome:
        flushing = FLUSH_SECONDS * len(managed(self._node.spec.volumes))
        self._node.loop.run_until(lambda: self._gone >= self._lines.keys(), grace + SETTLE_SECONDS + flushing)
        return super().settle(outcome, grace)

    def _joined(self, line: Line, message: dict[str, Any]) -> None:
        index = message.get("member")
        if not isinstance(index, int) or not 0 < index < len(self._node.spec.hosts) or index in self._lines:
            line.close(self._node.loop)
            return
        self._lines[index] = line
        self._node.loop.watch(line.socket, lambda: self._readable(index))
        if self._ending is not None:
            self._send(index, self._ending)
        for early in line.pending:
            self._heard(index, early)

    def _readable(self, index: int) -> None:
        line = self._lines[index]
        try:
            messages = line.receive()
        except ConnectionLost as error:
            self._hung_up(index, str(error))
            return
        for message in messages:
            self._heard(index, message)

    def _heard(self, index: int, message: dict[str, Any]) -> None:
        if "gone" in message:
            self._gone.add(index)
        elif "unwritten" in message:
            self.not_written(message["unwritten"])
        elif self._ending is not None:
            return
        elif "prepared" in message:
            self._prepared.add(index)
        elif "outcome" in message:
            raise AttemptEnded(Outcome.from_dict(message["outcome"]), grace=message.get("grace"))
        elif "warned" in message:
            # Before it is warned itself, perhaps: what this node's processes do next is not their failure.
            self.warned()
        elif "process" in message:
            role, number, code = message["process"]
            self._heard_process(index, role, number, code)
        elif "rank" in message:
            self._heard_rank(index, *message["rank"])
        elif "began" in message:
            self._heard_began(index, message["began"])
        elif "daemon" in message:
            self._heard_daemon(index, message["daemon"])

    def _send(self, index: int, message: dict[str, Any]) -> None:
        try:
            self._lines[index].send(message)
        except ConnectionLost as error:
            self._hung_up(index, str(error))

    def _hung_up(self, index: int, why: str) -> None:
        self._lines[index].close(self._node.loop)
        already = index in self._gone
        self._gone.add(index)
        if self._ending is None and not already:
            raise self._lost(index, f"was lost ({why})")

    def _lost(self, index: int, what: str) -> AttemptEnded:
        host = self._node.spec.hosts[index]
        return lost(
            ReasonCode.NODE_LOST,
            f"The runner of node {host.name} ({host.address}) {what}: the node ended or cannot be reached.",
            {"node": host.name, "nodeId": host.node_id},
        )


class Member:
    """The runner of every other node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._line = self._connect()
        self._facts: dict[str, Any] | None = None
        self._final: Outcome | None = None
        self._ended = False
        node.loop.watch(self._line.socket, self._readable)

    def gather(self) -> dict[str, Any]:
        self._send({"prepared": True})
        self._node.loop.run_until(lambda: self._facts is not None)
        return self._facts or {}

    def begin(self, plan: LaunchPlan) -> None:
        """The coordinator supervises."""

    def warned(self) -> None:
        self._send({"warned": True})

    def process_ended(self, role: str, index: int, code: int) -> None:
        self._send({"process": [role, index, code]})

    def rank_ended(self, rank: int, code: int, asked: bool) -> None:
        self._send({"rank": [rank, code, asked]})

    def rank_began(self, rank: int) -> None:
        self._send({"began": rank})

    def daemon_ended(self, code: int) -> None:
        self._send({"daemon": code})

    def announce(self, outcome: Outcome, grace: float) -> None:
        self._ended = True
        if self._final is None:
            self._send({"outcome": outcome.to_dict(), "grace": grace})

    def not_written(self, reason: dict[str, Any]) -> None:
        self._send({"unwritten": reason})

    def settle(self, outcome: Outcome, grace: float) -> Outcome:
        self._node.loop.run_until(lambda: self._final is not None or self._cut_off, SETTLE_SECONDS)
        return self._final or outcome

    def done(self) -> None:
        self._send({"gone": True})

    @property
    def _cut_off(self) -> bool:
        return self._line.socket.fileno() < 0

    def _connect(self) -> Line:
        spec = self._node.spec
        master = spec.hosts[0]
        until = time.monotonic() + CONNECT_SECONDS
        while True:
            try:
                line = Line(socket.create_connection((master.address, spec.port), timeout=5.0))
                line.send({"member": spec.node_index, "token": spec.token})
                return line
            except (OSError, ConnectionLost) as error:
                if time.monotonic() >= until:
                    raise self._lost(f"cannot be reached within {CONNECT_SECONDS:g} s: {error}") from error
                # Stops and the parent's death are noticed between two tries.
                self._node.loop.run_until(lambda: False, 0.02)

    def _readable(self) -> None:
        try:
            messages = self._line.receive()
        except ConnectionLost as error:
            self._hung_up(str(error))
            return
        for message in messages:
            if "start" in message:
                self._facts = message["start"]
            elif "end" in message:
                self._final = Outcome.from_dict(message["end"])
                if not self._ended:
                    raise AttemptEnded(self._final, grace=message["grace"])

    def _send(self, message: dict[str, Any]) -> None:
        if not self._cut_off:
            with suppress(ConnectionLost):
                self._line.send(message)

    def _hung_up(self, why: str) -> None:
        self._line.close(self._node.loop)
        if not self._ended:
            raise self._lost(f"was lost ({why})")

    def _lost(self, what: str) -> AttemptEnded:
        host = self._node.spec.hosts[0]
        return lost(
            ReasonCode.NODE_LOST,
            f"The runner of the gang's first node, {host.name} ({host.address}), {what}: the node ended.",
            {"node": host.name, "nodeId": host.node_id},
        )
