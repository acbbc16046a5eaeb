"""Each rank's own word about its beginning and its end, where MPI or torchrun starts it: a FIFO on each node that the
rank wrapper (rank.sh) writes lines to.
"""

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
#: Stands for the exit code of a rank that begins.
BEGAN = b"began"
WRAPPER_TEXT = Path(__file__).with_name("rank.sh").read_text()


class RankWords:
    """Listens to the ranks of this node."""

    def __init__(
        self, fifo: int, loop: EventLoop, began: Callable[[int], None], ended: Callable[[int, int, bool], None]
    ) -> None:
        """Call ``began(rank)``, and ``ended(rank, exit code, whether it had been asked to by a signal)``.

        The FIFO is open for both directions: a writer never waits for a reader, and the reader never meets the end.
        """
        self._fd = fifo
        self._buffer = b""
        self._began, self._ended = began, ended
        loop.watch(self._fd, self._read)

    def _read(self) -> None:
        *lines, self._buffer = (self._buffer + os.read(self._fd, 65536)).split(b"\n")
        for line in lines:
            rank, code, asked = line.split()
            if code == BEGAN:
                self._began(int(rank))
            else:
                self._ended(int(rank), int(code), asked != b"-")
