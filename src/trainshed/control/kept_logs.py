"""Logs that were kept for jobs that are gone (``resources.directories.kept_logs``).

A job that succeeded has its logs where they belong, and the runner removes what it kept. For one that failed they stay:
another attempt would write on, and where its volume could not be written they are the only ones. They are as old as the
job: when it is deleted nothing leads to them any more.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from trainshed.resources import directories
from trainshed.runner import trees

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: Below a cluster's mount root, from the subscription to the job's uid.
_LEVELS = len(directories.segment("s", "g", "w", "e", "j", "u").split("/"))


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept for one job."""

    uid: str
    #: The mount root of its cluster, and the names on the way from there.
    root: Path
    names: tuple[str, ...]


def kept(home: Path) -> list[Kept]:
    """All that is kept on the clusters of this home, also of clusters that are gone."""
    found = []
    with suppress(FileNotFoundError):
        for root in sorted((home / "clusters").iterdir()):
            place = directories.kept_logs(str(root / "mounts"), "")
            name = Path(place).relative_to(root / "mounts").parts[0]
            with suppress(OSError):
                folder = os.open(root / "mounts", _FOLDER)
                try:
                    ways = list(_below(folder, (name,), _LEVELS))
                finally:
                    os.close(folder)
                found += [Kept(names[-1], root / "mounts", names) for names in ways]
    return found


def remove(one: Kept) -> None:
    """Remove it. Jobs can write there: no link is followed on the way or below. Raises OSError."""
    folder = os.open(one.root, _FOLDER)
    try:
        for name in one.names[:-1]:
            inner = os.open(name, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = inner
        inner = os.open(one.names[-1], _FOLDER, dir_fd=folder)
        try:
            trees.empty(f"/proc/self/fd/{inner}/.")
        finally:
            os.close(inner)
        with suppress(FileNotFoundError):
            os.rmdir(one.names[-1], dir_fd=folder)
    finally:
        os.close(folder)


def _below(folder: int, names: tuple[str, ...], levels: int) -> Iterator[tuple[str, ...]]:
    """The folders so many levels below the one of the last name, which is in the open folder."""
    try:
        inner = os.open(names[-1], _FOLDER, dir_fd=folder)
    except OSError:
        return
    try:
        if not levels:
            yield names
            return
        with os.scandir(inner) as entries:
            inside = sorted(entry.name for entry in entries)
        for name in inside:
            yield from _below(inner, (*names, name), levels - 1)
    finally:
        os.close(inner)
