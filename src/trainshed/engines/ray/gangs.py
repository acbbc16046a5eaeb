"""The gangs of the Ray engine: started on all their nodes or on none, stopped, concluded, kept until forgotten.

A part is over when its warden says so, or when its folder holds a proof: the runner's outcome, or the warden's word
that nothing lives. A node that is gone without a proof counts as ended only after the fence, the time within which a
raylet that lost its head has ended itself, and with it everything on the node.
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from trainshed.engines.local.gang import Gang, node_lost, node_removed, runner_lost, service_stopped
from trainshed.engines.local.layout import write_durably
from trainshed.engines.local.messages import Message
from trainshed.engines.local.wire import Refused
from trainshed.engines.protocol import NodeCondition
from trainshed.engines.ray.held import HeldNode
from trainshed.engines.ray.places import LOST_FILE, Places
from trainshed.engines.ray.specs import runner_specs
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.runner.outcome import read as read_outcome
from trainshed.runner.spec import Outcome

#: Seconds beyond the grace that runners have to end by themselves; and the grace for the rest when a part is lost.
_STOP_MARGIN, _LOSS_GRACE = 5.0, 5.0
#: Seconds between looks for a proof.
_LOOK_AGAIN = 0.25
#: Ports of gangs of several nodes, below those that kernels give out by themselves; and how many are tried.
_PORTS, _TRIED = range(20000, 32000), 8


@dataclass(slots=True)
class Telling:
    """How gangs reach their nodes. Neither raises: a node that does not listen is found lost elsewhere."""

    #: Whether it was taken, when that is known.
    message: Callable[[HeldNode, Message], asyncio.Task[bool]]
    #: Of the ports, those that are free on the node.
    free_ports: Callable[[HeldNode, list[int]], Any]


class GangKeeper:
    """All gangs that are not forgotten, and which node is busy with which."""

    def __init__(
        self,
        places: Places,
        nodes: dict[str, HeldNode],
        telling: Telling,
        on_ended: Callable[[Gang], None],
        fence_seconds: float,
        share_user: bool,
    ) -> None:
        self._places, self._nodes, self._telling, self._on_ended = places, nodes, telling, on_ended
        self._fence, self._share_user = fence_seconds, share_user
        self._gangs: dict[str, Gang] = {}
        self._busy: dict[str, str] = {}
        #: Which warden each part was given to, by attempt and node.
        self._given: dict[tuple[str, str], str] = {}
        self._seeking: dict[tuple[str, str], asyncio.Task[None]] = {}
        #: Attempts that no warden was given yet: none can say anything of them.
        self._starting: set[str] = set()
        self._closing = False
        self._none_runs = asyncio.Event()

    def recover(self) -> None:
        """What a former bridge left: gangs whose parts live on, those that ended, and those of nodes that are gone."""
        for folder in sorted(self._places.attempts.iterdir()):
            try:
                record = json.loads((folder / "gang.json").read_text())
                node_ids = tuple(record["node_ids"])
            except (OSError, ValueError, KeyError):
                shutil.rmtree(folder, ignore_errors=True)  # It was being made: nothing of it was started.
                continue
            gang = Gang(folder.name, node_ids, stop_reason=record.get("stop_reason"), segment=record["segment"])
            self._gangs[gang.attempt_id] = gang
            if record.get("final"):
                gang.final, gang.outcomes = record["final"], dict.fromkeys(node_ids)
                continue
            for index, node_id in enumerate(node_ids):
                word = self._durable_word(gang.attempt_id, index)
                if word is not None:
                    gang.part_ended(node_id, word)
                else:
                    self._busy[node_id] = gang.attempt_id
            for node_id in gang.running:
                if node_id not in self._nodes:
                    self._seek(gang, node_id)

    def statuses(self) -> list[Message]:
        """All of them, as sent to the service."""
        return [gang.status() for gang in self._gangs.values()]

    async def start(self, spec: Message, job_secrets: dict[str, str], private: dict[str, str]) -> None:
        """Start a gang, unless it is known already. Raises Refused when a node cannot take it; nothing runs then."""
        attempt_id = spec["attempt_id"]
        if attempt_id in self._gangs:
            return
        if spec.get("user") and not self._share_user:
            raise Refused(_no_users())
        members = [self._ready_node(node_id) for node_id in spec["node_ids"]]
        gang = Gang(attempt_id, tuple(spec["node_ids"]), segment=spec["segment"])
        self._gangs[attempt_id] = gang
        self._busy.update((node_id, attempt_id) for node_id in gang.node_ids)
        self._starting.add(attempt_id)
        try:
            port = await self._free_port(members) if len(members) > 1 else 0
            await asyncio.to_thread(self._put_down, gang, spec, members, port)
            for node in members:
                self._ready_node(node.node_id, attempt_id)
            if gang.final is not None:
                raise Refused(_not_ready(gang.node_ids[0], "was lost meanwhile"))
        except BaseException as error:
            if gang.final is not None and isinstance(error, Refused):
                # Its nodes were lost meanwhile; that end was told, stands, and may have been forgotten since.
                if attempt_id not in self._gangs:
                    shutil.rmtree(self._places.attempts / attempt_id, ignore_errors=True)
                return
            self._gangs.pop(attempt_id, None)
            for node_id in gang.node_ids:
                if self._busy.get(node_id) == attempt_id:
                    del self._busy[node_id]
            shutil.rmtree(self._places.attempts / attempt_id, ignore_errors=True)
            if isinstance(error, OSError):
                raise Refused(_not_written(self._places, error)) from error
            raise
        finally:
            self._starting.discard(attempt_id)
        token = secrets.token_hex(16)
        taken = []
        for index, node in enumerate(members):
            self._given[attempt_id, node.node_id] = node.run
            message: Message = {"start": str(self._places.part(attempt_id, index) / "spec.json"), "attempt": attempt_id}
            message |= {"secrets": job_secrets, "private": private, "token": token}
            taken.append(self._telling.message(node, message))
        # A bridge that dies when the service was told that it started has handed it over.
        for node, was_taken in zip(members, await asyncio.gather(*taken), strict=True):
            if not was_taken:
                self._telling.message(node, {"void": attempt_id, "reason": None})
        if gang.stop_reason is not None:
            # While its files were written: nothing had heard of it then.
            self._stop_parts(gang, gang.stop_reason, 0.0)

    def _put_down(self, gang: Gang, spec: Message, members: list[HeldNode], port: int) -> None:
        store = spec["code_store"]
        if store is not None and spec["code_manifest"] is not None:
            store = self._places.bring_code(store, spec["code_manifest"])
        parts = runner_specs(spec, members, self._places, port, store)
        for index, part in enumerate(parts):
            folder = self._places.part(gang.attempt_id, index)
            folder.mkdir(mode=0o700, parents=True)
            (folder / "spec.json").write_text(json.dumps(part, separators=(",", ":")))
        if self._places.scratch is not None:
            shutil.rmtree(self._places.shared_jobs(members[0].node_id), ignore_errors=True)
        # Last: a folder without it is of a gang that was not started.
        self._record(gang)

    def _record(self, gang: Gang) -> None:
        told = {"stop_reason": gang.stop_reason, "final": gang.final}
        record = {"node_ids": list(gang.node_ids), "segment": gang.segment, **told}
        write_durably(self._places.attempts / gang.attempt_id / "gang.json", record)

    async def _free_port(self, members: list[HeldNode]) -> int:
        candidates = random.sample(_PORTS, _TRIED)
        answers = await asyncio.gather(*(self._telling.free_ports(node, candidates) for node in members))
        for port in candidates:
            if all(port in answer for answer in answers):
                return port
        raise Refused(_not_ready(members[0].node_id, "has no free port for the gang, or does not answer"))

    def _ready_node(self, node_id: str, own: str = "") -> HeldNode:
        node = self._nodes.get(node_id)
        ready = node is not None and node.condition is NodeCondition.READY and not node.removing
        if node is None or not ready or self._closing:
            raise Refused(_not_ready(node_id, "is not ready"))
        if self._busy.get(node_id, own) != own:
            raise Refused(_not_ready(node_id, f"still runs attempt {self._busy[node_id]}"))
        return node

    def stop(self, attempt_id: str, reason: Message, grace: float, warning: Message | None = None) -> None:
        """As the protocol says; a stop without a warning overtakes one with a warning."""
        gang = self._gangs.get(attempt_id)
        if gang is None or gang.final is not None:
            return
        if gang.stop_reason is not None and not (gang.warned and warning is None):
            return
        gang.stop_reason, gang.warned = reason, warning is not None
        with suppress(OSError):
            self._record(gang)
        self._stop_parts(gang, reason, grace, warning)

    def _stop_parts(self, gang: Gang, reason: Message, grace: float, warning: Message | None = None) -> None:
        self._tell_parts(gang, {"stop": gang.attempt_id, "reason": reason, "grace": grace, "warning": warning})
        patience = grace + _STOP_MARGIN + (warning["seconds"] if warning else 0.0)
        asyncio.get_running_loop().call_later(patience, self._tell_parts, gang, {"kill": gang.attempt_id})

    def _tell_parts(self, gang: Gang, message: Message) -> None:
        for node_id in gang.running:
            node = self._nodes.get(node_id)
            if node is not None:
                self._telling.message(node, message)

    async def end_all(self, grace: float) -> None:
        """Every attempt is stopped with a reason that its job is queued again for."""
        self._closing = True
        for gang in list(self._gangs.values()):
            if gang.running:
                self.stop(gang.attempt_id, service_stopped().to_json(), grace)
        with suppress(TimeoutError):
            async with asyncio.timeout(grace + 2 * _STOP_MARGIN):
                while self._busy:
                    self._none_runs.clear()
                    await self._none_runs.wait()

    def forget(self, attempt_ids: list[str]) -> list[str]:
        """Drop gangs that have ended, with their files; those that were dropped."""
        asked = map(self._gangs.get, dict.fromkeys(attempt_ids))
        known = [gang for gang in asked if gang is not None and gang.final is not None]
        for gang in known:
            del self._gangs[gang.attempt_id]
            shutil.rmtree(self._places.attempts / gang.attempt_id, ignore_errors=True)
            for node in filter(None, map(self._nodes.get, gang.node_ids)):
                self._telling.message(node, {"forget": [gang.attempt_id]})
        return [gang.attempt_id for gang in known]

    def heard(self, node: HeldNode, parts: dict[str, Message | None]) -> None:
        """What a node's warden says of all attempts there."""
        for gang in [gang for gang in self._gangs.values() if node.node_id in gang.running]:
            if gang.attempt_id in self._starting:
                continue
            if gang.attempt_id not in parts:
                given = self._given.get((gang.attempt_id, node.node_id))
                if given != node.run:
                    # It never came there, or the warden that it was given to is dead; the answer is that it is over.
                    reason = None if given else not_handed_over(node.node_id).to_json()
                    self._telling.message(node, {"void": gang.attempt_id, "reason": reason})
                continue
            ended = parts[gang.attempt_id]
            if ended is not None:
                word = Outcome.from_dict(ended["outcome"]) if ended["outcome"] else None
                self._conclude(gang, node.node_id, word, Reason.from_json(ended["loss"]) if ended["loss"] else None)
        # What was forgotten while the node could not be told.
        strange = [attempt for attempt, ended in parts.items() if ended is not None and attempt not in self._gangs]
        if strange:
            self._telling.message(node, {"forget": strange})

    def node_leaves(self, node_id: str) -> None:
        """It is taken away: whatever runs on it ends on all its nodes."""
        gang = self._gangs.get(self._busy.get(node_id, ""))
        if gang is not None and gang.final is None:
            gang.loss = gang.loss or node_removed(node_id)
            self._tell_parts(gang, {"kill": gang.attempt_id})

    def node_gone(self, node_id: str) -> None:
        """There is no agent on it any more, and will be none: only proofs count."""
        for gang in self._gangs.values():
            if node_id in gang.running:
                self._seek(gang, node_id)

    def _seek(self, gang: Gang, node_id: str) -> None:
        key = gang.attempt_id, node_id
        if key not in self._seeking:
            self._seeking[key] = asyncio.create_task(self._seek_proof(gang, node_id, self._fate(node_id)))

    async def _seek_proof(self, gang: Gang, node_id: str, fate: Reason | None) -> None:
        index = gang.node_ids.index(node_id)
        file = self._places.part(gang.attempt_id, index) / LOST_FILE
        word, loss = None, node_unheard(node_id, self._fence)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._fence):
                while True:
                    word = self._durable_word(gang.attempt_id, index)
                    with suppress(OSError, ValueError, KeyError):
                        if word is None:
                            loss = Reason.from_json(json.loads(file.read_text()))
                        break
                    await asyncio.sleep(_LOOK_AGAIN)
        self._conclude(gang, node_id, word, (fate or loss) if word is None else None)

    def _fate(self, node_id: str) -> Reason | None:
        """Why attempts are lost with a node that was taken away, or that Ray's head forgot: it did not die of them."""
        node = self._nodes.get(node_id)
        if node is None or node.reason is None or not node.is_gone or node.reason.code is ReasonCode.NODE_LOST:
            return None
        return Reason(node.reason.code, f"{node.reason.text} The job is queued again.", {"node": node_id})

    def _conclude(self, gang: Gang, node_id: str, word: Outcome | None, loss: Reason | None) -> None:
        if self._busy.get(node_id) == gang.attempt_id:
            del self._busy[node_id]
            self._none_runs.set()
        self._given.pop((gang.attempt_id, node_id), None)
        if word is None:
            gang.loss = gang.loss or loss or runner_lost(node_id)
        if gang.part_ended(node_id, word):
            if None in gang.outcomes.values():
                with suppress(OSError):
                    self._record(gang)  # What its parts left does not say all of it again.
            self._on_ended(gang)
        elif word is None and gang.final is None and gang.loss is not None:
            # The others might not notice by themselves: a runner that died early had not yet joined them.
            self._stop_parts(gang, gang.loss.to_json(), _LOSS_GRACE)

    def _durable_word(self, attempt_id: str, index: int) -> Outcome | None:
        with suppress(OSError, ValueError, TypeError):
            return read_outcome(str(self._places.part(attempt_id, index)))
        return None


def node_unheard(node_id: str, seconds: float) -> Reason:
    """For attempts on a node that was never heard of again."""
    lost = node_lost(node_id)
    text = (
        f"Node {node_id} was lost while the attempt ran on it, and nothing was heard of it for {seconds:g} s, within "
        "which a Ray node without its head ends itself. The job is queued again."
    )
    return Reason(lost.code, text, lost.details)


def not_handed_over(node_id: str) -> Reason:
    """For attempts of which another bridge knows only that they were to start."""
    text = (
        f"What hands attempts over to Ray was ended as the attempt started; node {node_id} does not have it. "
        "The job is queued again."
    )
    return Reason(ReasonCode.ENGINE_STOPPED, text, {"node": node_id})


def _not_ready(node_id: str, why: str) -> Reason:
    text = f"Node {node_id} {why}, so the attempt was not started on any node."
    return Reason(ReasonCode.NODE_NOT_READY, text, {"node": node_id})


def _not_written(places: Places, error: OSError) -> Reason:
    text = (
        f"The attempt's files cannot be written to the Ray engine's directory {places.directory} "
        f"({error.strerror or error}), so it was not started on any node. Make room there, or mend its mount."
    )
    return Reason(ReasonCode.NODE_NOT_READY, text)


def _no_users() -> Reason:
    return Reason(
        ReasonCode.NODE_NOT_READY,
        "The service keeps the jobs of different workspaces apart by Unix users of their own, and on Ray all run as "
        "the user of Ray's nodes. Set the engine's share_user to yes where that is acceptable, or use another cluster.",
        {"setting": "share_user"},
    )
