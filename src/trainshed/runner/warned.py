"""Which processes of an attempt get its warning signal, and the file that tells of it.

SIGUSR2 ends whoever has no handler for it, shells and launchers included, so it goes only to processes that take it;
and of those to the first on each branch of the tree, since what forks after that has inherited the handler (the workers
of a data loader), and launchers that take it pass it on themselves. Where the ranks have wrappers it goes below these
alone: their launchers would pass it on a second time (Open MPI) or end (MPICH).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

#: In the job's temp directory.
NOTICE_NAME = ".preemption-notice.json"
#: Names the file to the job; and the signal.
NOTICE_VARIABLE = "TRAINSHED_PREEMPTION_NOTICE"
SIGNAL_VARIABLE = "TRAINSHED_PREEMPTION_SIGNAL"
#: Handlers of so many signals are the language's (Go), and say nothing about whether the program looks at any.
_CATCHES_ALL = 48


@dataclass(slots=True)
class Processes:
    """The processes of ``/proc`` at one moment."""

    children: dict[int, list[int]] = field(default_factory=dict)
    #: Those that are rank wrappers.
    wrappers: list[int] = field(default_factory=list)


def look(wrapper: str, parent_of: Callable[[int], int | None]) -> Processes:
    """All processes; ``wrapper`` is the path of the rank wrapper, empty where there is none."""
    found = Processes()
    with os.scandir("/proc") as entries:
        pids = [int(entry.name) for entry in entries if entry.name.isdigit()]
    for pid in pids:
        parent = parent_of(pid)
        if parent is None:
            continue
        found.children.setdefault(parent, []).append(pid)
        if wrapper and _arguments(pid)[1:2] == [wrapper]:
            found.wrappers.append(pid)
    return found


def warn(
    number: int,
    roots: Iterable[int],
    wrapper: str,
    parent_of: Callable[[int], int | None],
    among: Collection[int] | None = None,
) -> int:
    """Send the signal; how many processes got it.

    ``roots`` are the processes that the toolkit started here, ``among`` those in which the attempt's are; None for all.
    """
    processes = look(wrapper, parent_of)
    if wrapper:
        roots = [
            child
            for pid in processes.wrappers
            if among is None or pid in among
            for child in processes.children.get(pid, ())
        ]
    sent = 0
    for pid in listeners(roots, processes.children, lambda pid: takes(pid, number)):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
            sent += 1
    return sent


def tell_others(number: int, roots: Iterable[int], parent_of: Callable[[int], int | None]) -> int:
    """Send a signal to all of ``/proc`` but its first process, ``roots`` and what is below them; how many got it."""
    children = look("", parent_of).children
    spared = {1}
    frontier = list(roots)
    while frontier:
        pid = frontier.pop()
        spared.add(pid)
        frontier += children.get(pid, ())
    sent = 0
    for pid in {pid for below in children.values() for pid in below} - spared:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
            sent += 1
    return sent


def listeners(
    roots: Iterable[int], children: dict[int, list[int]], taken_by: Callable[[int], bool | None]
) -> list[int]:
    """The first process on each branch that takes the signal. ``taken_by`` says None of one that catches everything:
    it gets the signal when nobody below it does.
    """
    found: list[int] = []
    for root in roots:
        taken = taken_by(root)
        below = [] if taken else listeners(children.get(root, ()), children, taken_by)
        found += below or ([root] if taken is not False else [])
    return found


def takes(pid: int, number: int) -> bool | None:
    """Whether a process has a handler for the signal, or all its threads block it to wait for it (``sigwait``).

    None for one that has handlers for nearly every signal.
    """
    bit = 1 << (number - 1)
    caught = _mask(f"/proc/{pid}/status", b"SigCgt:")
    if caught & bit:
        return None if caught.bit_count() >= _CATCHES_ALL else True
    with suppress(OSError), os.scandir(f"/proc/{pid}/task") as threads:
        return all(_mask(f"{thread.path}/status", b"SigBlk:") & bit for thread in threads)
    return False


def _mask(path: str, name: bytes) -> int:
    try:
        with open(path, "rb") as file:
            for line in file:
                if line.startswith(name):
                    return int(line.split()[1], 16)
    except (OSError, ValueError):
        pass
    return 0


def _arguments(pid: int) -> list[str]:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().decode(errors="replace").split("\0")
    except OSError:
        return []
