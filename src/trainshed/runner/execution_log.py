"""``execution.log``: what the service did for the job on this node, one line with a time for each step.

Lies beside the job's own standard output (behaviour 6.3). Never holds command lines or values of variables: they may
contain secrets.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress


class ExecutionLog:
    """Lines are kept until the file can be opened, then appended one write at a time."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._fd = -1
        self._pending: list[bytes] = []

    def open(self, descriptor: int) -> None:
        """Start writing to this file, which is the log's from now on. Raises OSError."""
        self._fd = descriptor
        pending, self._pending = self._pending, []
        if pending:
            os.write(self._fd, b"".join(pending))

    def write(self, text: str) -> None:
        """Add a line. A full disk must not fail the job over its log."""
        now = time.time_ns() // 1_000_000
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 1000))
        line = f"{stamp}.{now % 1000:03d}Z {self._node}: {text}\n".encode()
        if self._fd < 0:
            self._pending.append(line)
        else:
            with suppress(OSError):
                os.write(self._fd, line)

    def close(self) -> None:
        """No more lines."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
