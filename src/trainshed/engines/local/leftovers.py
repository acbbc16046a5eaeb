"""Finds and ends processes that a dead daemon, a dead node or a dead runner left behind."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress

from trainshed.engines.local import cgroups
from trainshed.runner.descent import descendants

#: In the environment of the daemon, its forks and their jobs.
MARK_VARIABLE = "TRAINSHED_NODE_MARK"
#: Seconds until processes that cannot be killed are given up (they hang in the kernel).
_PATIENCE = 10.0
_LOOK_AGAIN = 0.01


def end_leftovers(mark: str) -> list[int]:
    """Kill every process of this home but the caller, and wait until none is left. Returns those that would not die.

    Called when the caller has no children, so whatever belongs to the home is somebody's who is dead: what carries the
    mark, what is below such a process, and what is in a node's control group (a job may have cleared its environment).
    """
    deadline = time.monotonic() + _PATIENCE
    while (found := _belonging(mark)) and time.monotonic() < deadline:
        kill_trees(found)
        time.sleep(_LOOK_AGAIN)
    return sorted(found)


def _belonging(mark: str) -> set[int]:
    living = {pid for pid in cgroups.members(mark) if _is_alive(pid)}
    return (living | set(marked(mark))) - {os.getpid()}


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


def kill_trees(roots: Iterable[int]) -> None:
    """SIGKILL to these processes and to all that is below them, stopped first so that none forks on meanwhile."""
    found = _with_descendants(roots)
    _signal(found, signal.SIGSTOP)
    _signal(found | _with_descendants(found), signal.SIGKILL)


def children() -> set[int]:
    """The caller's children, those that ended and wait to be reaped included."""
    me = os.getpid()
    try:
        with open(f"/proc/{me}/task/{me}/children") as file:
            return {int(pid) for pid in file.read().split()}
    except FileNotFoundError:  # A kernel without CONFIG_PROC_CHILDREN.
        parents = descendants(me)
        return {pid for pid in parents if _parent(pid) == me}


def _with_descendants(roots: Iterable[int]) -> set[int]:
    return {below for root in roots for below in (root, *descendants(root))}


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _is_alive(pid: int) -> bool:
    return _stat(pid)[0] not in (b"Z", b"X", b"")


def _parent(pid: int) -> int:
    return int(_stat(pid)[1])


def _stat(pid: int) -> tuple[bytes, bytes]:
    """State and parent from ``/proc/PID/stat``, whose second field may hold any character."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            state, parent = file.read().rpartition(b")")[2].split()[:2]
    except (OSError, ValueError):
        return b"", b"0"
    return state, parent
