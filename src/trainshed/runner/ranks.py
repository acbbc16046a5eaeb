"""Each MPI rank's own word about its end: a FIFO on each node that the rank wrapper (rank.sh) writes a line to."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from trainshed.runner.events import EventLoop

#: In the job's temp directory.
FIFO_NAME = ".ranks"
#: Names the FIFO to the wrapper; differs from node to node.
VARIABLE = "TRAINSHED_RANKS"
#: Names the node's working directory to it.
DIRECTORY_VARIABLE = "TRAINSHED_RANK_DIRECTORY"
WRAPPER_TEXT = Path(__file__).with_name("rank.sh").read_text()


class RankWords:
    """Listens to the ranks of this node."""

    def __init__(self, fifo: int, loop: EventLoop, heard: Callable[[int, int, bool], None]) -> None:
        """Call ``heard(rank, exit code, whether a signal had been passed on to it)`` for each word.

        The FIFO is open for both directions: a writer never waits for a reader, and the reader never meets the end.
        """
        self._fd = fifo
        self._buffer = b""
        self._heard = heard
        loop.watch(self._fd, self._read)

    def _read(self) -> None:
        *lines, self._buffer = (self._buffer + os.read(self._fd, 65536)).split(b"\n")
        for line in lines:
            rank, code, asked = line.split()
            self._heard(int(rank), int(code), asked != b"-")
