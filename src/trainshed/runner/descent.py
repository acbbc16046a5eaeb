"""Who descends from a process, as ``/proc`` tells it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from contextlib import suppress


def signal_each(pids: Iterable[int], number: signal.Signals) -> None:
    """To those that are there and may be told."""
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def descendants(root: int, read: Callable[[int], int | None] | None = None) -> list[int]:
    """Every living descendant of a process, parents first. Zombies are left out."""
    parent_of = read or living_parent
    children: dict[int, list[int]] = {}
    with os.scandir("/proc") as entries:
        pids = [int(entry.name) for entry in entries if entry.name.isdigit()]
    for pid in pids:
        parent = parent_of(pid)
        if parent is not None:
            children.setdefault(parent, []).append(pid)
    found: list[int] = []
    frontier = [root]
    while frontier:
        below = children.get(frontier.pop(), [])
        found.extend(below)
        frontier.extend(below)
    return found


def living_parent(pid: int) -> int | None:
    """Parent of a living process from ``/proc/PID/stat``, whose second field may hold any character."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            state, parent = file.read().rpartition(b")")[2].split()[:2]
    except (OSError, ValueError):
        return None
    return None if state in b"ZX" else int(parent)
