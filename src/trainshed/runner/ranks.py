"""Each MPI rank's own word about its end: a FIFO on each node that the rank wrapper (rank.sh) writes a line to."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from trainshed.runner.events import EventLoop

#: Names the FIFO to the wrapper; differs from node to node.
VARIABLE = "TRAINSHED_RANKS"
WRAPPER_TEXT = Path(__file__).with_name("rank.sh").read_text()


class RankWords:
    """Listens to the ranks of this node."""

    def __init__(self, state: str, loop: EventLoop, heard: Callable[[int, int], None]) -> None:
        """Make the FIFO and call ``heard(rank, exit code)`` for each word. Raises OSError."""
        self.path = f"{state}/ranks"
        Path(self.path).unlink(missing_ok=True)
        os.mkfifo(self.path, 0o600)
        # Open for both directions: a writer never waits for a reader, and the reader never meets the end.
        self._fd = os.open(self.path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._buffer = b""
        self._heard = heard
        loop.watch(self._fd, self._read)

    def _read(self) -> None:
        *lines, self._buffer = (self._buffer + os.read(self._fd, 65536)).split(b"\n")
        for line in lines:
            rank, code = line.split()
            self._heard(int(rank), int(code))
