"""The runner's side of ranks that are started by somebody else: they are told the job's environment and where to go.

Where an engine has a launcher of ranks of its own (``RunnerSpec.rank_launcher``), what that starts on a node calls the
runner there: ``{"join": pid}``. The answer has the environment and the runner's process id, whose namespaces are to be
entered. ``{"rank": number, "process": pid}`` says which process will be which rank, at the head of a session of its
own, and is answered by ``{"go": true}``: from then on it is ended with the attempt. A connection is kept while the rank
lives. When the runner cuts it, the rank is to end; when the other end does, and the rank itself has not said how it
ended, it was killed.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from trainshed.runner.failure import SIGNALLED
from trainshed.runner.lines import ConnectionLost, Line
from trainshed.runner.node import Node
from trainshed.runner.processes import BASH
from trainshed.runner.switchboard import Switchboard
from trainshed.toolkits.launch import LaunchPlan, MpiFlavor

_OPEN_MPI = (MpiFlavor.OPEN_MPI_4, MpiFlavor.OPEN_MPI_5)
#: Seconds within which the rank's own word comes, which it had said before.
_WORD_SECONDS = 1.0
_KILLED = SIGNALLED + signal.SIGKILL


def numbers(plan: LaunchPlan, host: int, flavor: MpiFlavor | None) -> dict[str, str]:
    """What launchers of MPI tell their ranks: today's variables, and those by which programs of this MPI go.

    ``{rank}`` and ``{local}`` stand for the rank's number among all and on its node.
    """
    size, here = str(sum(plan.slots)), str(plan.slots[host])
    found = {"RANK": "{rank}", "WORLD_SIZE": size, "LOCAL_RANK": "{local}", "LOCAL_WORLD_SIZE": here}
    if flavor in _OPEN_MPI:
        own = {"RANK": "{rank}", "SIZE": size, "LOCAL_RANK": "{local}", "LOCAL_SIZE": here, "NODE_RANK": "{local}"}
        return found | {f"OMPI_COMM_WORLD_{name}": value for name, value in own.items()}
    if flavor is not None:
        return found | {"MPI_LOCALRANKID": "{local}", "MPI_LOCALNRANKS": here}
    return found


class Joining:
    """Takes in the ranks of this node, which get ``environment`` and their ``numbers``."""

    def __init__(
        self,
        node: Node,
        switchboard: Switchboard,
        environment: dict[str, str],
        numbers: dict[str, str],
        ended: Callable[[int, int, bool], None],
    ) -> None:
        """``ended`` is called with the number of a rank that was killed, its exit code and False."""
        self._node = node
        self._ended = ended
        self._told = {
            "runner": os.getpid(),
            "environment": environment,
            "numbers": numbers,
            "prelude": node.prelude,
            "bash": BASH,
            "folder": node.folder or str(Path.cwd()),
        }
        assert node.isolation is not None
        node.isolation.joined = node.joined
        switchboard.take("join", self._join)

    def _join(self, line: Line, message: dict[str, Any]) -> None:
        node, caller = self._node, int(message["join"])
        if node.ended:
            line.close(node.loop)
            return

        #: Its number and its process.
        rank: list[int] = []

        def left() -> None:
            node.joined.pop(caller, None)
            line.close(node.loop)
            if rank:
                node.loop.after(_WORD_SECONDS, lambda: self._left(*rank))

        def said() -> None:
            try:
                for told in line.receive():
                    if node.ended:
                        left()
                        return
                    rank[:] = [int(told["rank"]), int(told["process"])]
                    node.joined[caller] = rank[1]
                    line.send({"go": True})
            except (ConnectionLost, KeyError, ValueError):
                left()

        node.loop.watch(line.socket, said)
        try:
            line.send(self._told)
        except ConnectionLost:
            left()

    def _left(self, rank: int, process: int) -> None:
        if rank in self._node.spoken:
            return
        with suppress(ProcessLookupError, PermissionError):
            # What it has started, and has nobody else now.
            os.killpg(process, signal.SIGKILL)
        if not self._node.ended:
            self._ended(rank, _KILLED, False)
