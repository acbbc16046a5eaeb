"""Finds and ends processes that a dead daemon or a dead node left behind, and waits until none is left."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

#: In the environment of the daemon, its forks and their jobs.
MARK_VARIABLE = "TRAINSHED_NODE_MARK"
#: Seconds until processes that cannot be killed are given up (they hang in the kernel).
_PATIENCE = 10.0


def end_marked(mark: str) -> list[int]:
    """Kill every process of this home but the caller. Returns those that would not die.

    Called when the caller has no children, so whatever carries the mark belongs to somebody who is dead.
    """
    deadline = time.monotonic() + _PATIENCE
    while (found := marked(mark)) and time.monotonic() < deadline:
        for pid in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
    return found


def marked(mark: str) -> list[int]:
    """Living processes whose environment carries the mark, without the caller."""
    wanted = f"{MARK_VARIABLE}={mark}".encode()
    found = []
    with os.scandir("/proc") as entries:
        pids = [int(entry.name) for entry in entries if entry.name.isdigit()]
    for pid in pids:
        if pid == os.getpid():
            continue
        with suppress(OSError):
            with open(f"/proc/{pid}/environ", "rb") as file:
                if wanted in file.read().split(b"\0"):
                    found.append(pid)
    return found
