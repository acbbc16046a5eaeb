"""Which log holds which rank's output on this node, and how the logs grow: what ``resources.joblogs`` describes.

Processes write to their files themselves, so a line's time is known by looking at the sizes now and then. A job that
ends before the first look, and has one process, has no ``ranks`` directory.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

from trainshed.resources import directories, joblogs
from trainshed.resources.joblogs import LogSource
from trainshed.runner.node import Node
from trainshed.toolkits.launch import LaunchPlan
from trainshed.toolkits.placing import places

#: Names the directory of the ranks' files to the rank wrapper (rank.sh).
VARIABLE = "TRAINSHED_RANK_LOGS"


def sources(node: Node, plan: LaunchPlan) -> list[LogSource]:
    """The logs of this node's processes and ranks."""
    here, host = node.spec.node_index, node.host
    alone = len(plan.processes) == 1 and not plan.wrapped_ranks
    found = []
    for process in plan.on(here):
        rank = process.environment.get("RANK", "0" if alone else "")
        number = int(rank) if rank.isdecimal() else None
        for stream, name in (("stdout", process.stdout), ("stderr", process.stderr)):
            found.append(LogSource(name, stream, process.role, process.index, number, host.name, host.node_id))
    for place in places(plan.slots) if plan.mpi_ranks else ():
        if place.host == here:
            found += of_rank(node, place.rank)
    return found


def of_rank(node: Node, rank: int) -> list[LogSource]:
    """The logs of a rank that MPI or torchrun starts on this node."""
    return [
        LogSource(name, stream, "rank", rank, rank, node.host.name, node.host.node_id)
        for stream, name in zip(("stdout", "stderr"), directories.launched_logs(rank), strict=True)
    ]


class RankLogs:
    """Lists this node's logs and notes how they grow, until it is closed. A full disk never fails the job over it."""

    def __init__(self, node: Node, plan: LaunchPlan) -> None:
        self._node = node
        self._sources = sources(node, plan)
        self._times = -1
        self._logs: list[tuple[str, int]] = []
        self._sizes: dict[str, int] = {}
        self._closed = not self._sources
        self._listed = False
        #: Where the ranks' own files go; empty when there is no such place.
        self.directory = f"{node.stdouterr}/{directories.RANKS}"
        if plan.wrapped_ranks or len(plan.processes) > 1:
            self._list()
        if not self._closed:
            node.loop.after(joblogs.INTERVAL, self._look_again)

    def rank_began(self, rank: int) -> None:
        """List the logs of a rank unless they are: which ranks are here, torchrun decides late."""
        if self._closed or any(source.rank == rank for source in self._sources):
            return
        found = of_rank(self._node, rank)
        self._sources += found
        self._write_list(found, rank)
        if self._times >= 0:
            self._open_logs(found)

    def close(self) -> None:
        """A last look; the files are let go."""
        if self._times >= 0:
            self._look()
        for descriptor in (self._times, *(descriptor for _, descriptor in self._logs)):
            if descriptor >= 0:
                os.close(descriptor)
        self._times, self._logs, self._closed = -1, [], True

    def _list(self) -> None:
        self._listed = True
        self._write_list(self._sources)

    def _write_list(self, sources: list[LogSource], rank: int | None = None) -> None:
        node = self._node
        try:
            node.hands.make_directory(self.directory)
            path = f"{node.stdouterr}/{joblogs.list_file(node.spec.node_index, rank)}"
            with open(node.hands.create(path, 0o644), "w") as file:
                file.write(joblogs.list_text(sources))
        except OSError as error:
            node.log.write(f"there are no logs by rank: {self.directory}: {error.strerror}")
            self._closed = True

    def _look_again(self) -> None:
        if not self._listed:
            self._list()
        if self._closed:
            return
        if self._times < 0:
            self._open()
        self._look()
        self._node.loop.after(joblogs.INTERVAL, self._look_again)

    def _open(self) -> None:
        with suppress(OSError):
            path = f"{self._node.stdouterr}/{joblogs.times_file(self._node.spec.node_index)}"
            self._times = self._node.hands.open_log(path)
            self._open_logs(self._sources)

    def _open_logs(self, sources: list[LogSource]) -> None:
        with suppress(OSError):
            for source in sources:
                path = f"{self._node.stdouterr}/{source.name}"
                self._logs.append((source.name, self._node.hands.open_log(path)))

    def _look(self) -> None:
        now = time.time_ns() // 1_000_000
        lines = []
        with suppress(OSError):
            for name, descriptor in self._logs:
                size = os.fstat(descriptor).st_size
                if size != self._sizes.get(name, 0):
                    self._sizes[name] = size
                    lines.append(f"{now} {size} {name}\n")
            if lines:
                os.write(self._times, "".join(lines).encode())
