"""What a home has on this machine beside its files: processes, mounts, control groups."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from trainshed.engines.local.cgroups import trees
from trainshed.engines.local.layout import Layout
from trainshed.engines.local.leftovers import MARK_VARIABLE

#: Seconds that the kernel may take to reap what was killed.
PATIENCE = 5.0


@dataclass(frozen=True, slots=True)
class Leftovers:
    """All of it; false when there is nothing."""

    processes: tuple[str, ...]
    mounts: tuple[str, ...]
    groups: tuple[str, ...]

    def __bool__(self) -> bool:
        return any((self.processes, self.mounts, self.groups))


def look(home: Path) -> Leftovers:
    """What the home has now."""
    mark = Layout(home).mark
    return Leftovers(
        tuple(f"{pid}: {command}" for pid, command in processes_of(home).items()),
        tuple(line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(home) in line),
        tuple(str(path) for tree, _ in trees().values() for path in (tree / "trainshed").glob(f"{mark}*")),
    )


def look_until_nothing(home: Path) -> Leftovers:
    """What is still there after PATIENCE; nothing as soon as there is nothing."""
    deadline = time.monotonic() + PATIENCE
    while (found := look(home)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def processes_of(home: Path) -> dict[int, str]:
    """Living processes that carry the home's mark or name the home on their command line."""
    mark = f"{MARK_VARIABLE}={Layout(home).mark}".encode()
    found = {}
    for pid, command in commands().items():
        try:
            marked = mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if marked or str(home) in command:
            found[pid] = command
    return found


def commands() -> dict[int, str]:
    """The command line of every living process but this one and its parents."""
    own = {os.getpid(), os.getppid()}
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) not in own:
            try:
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
    return {pid: command for pid, command in found.items() if command}
