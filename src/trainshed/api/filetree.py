"""Reading files below a directory that jobs write to, without ever being led out of it.

Jobs may make symbolic links, also while a request is served. A path is resolved first and must then lie below the root;
it is opened by walking from the root without following links, so that nothing changed in between leads elsewhere.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath


class OutsideRoot(Exception):
    """The path leads out of the root."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or directory in a listing. Size and time (Unix ms) are those of files."""

    name: str
    is_directory: bool
    size: int = 0
    modified_at: int = 0


def open_file(root: str, path: str) -> int | None:
    """A descriptor of the regular file at an absolute ``path`` below ``root``; None where there is no such file.

    The caller closes it. Raises OutsideRoot.
    """
    descriptor = _open(root, path, os.O_RDONLY)
    if descriptor is None:
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    return descriptor


def list_directory(root: str, path: str, after: str | None, limit: int) -> list[Entry]:
    """Up to ``limit`` entries of a directory, in order of name, after a name; empty where there is no such directory.

    Links are shown as what they lead to; those that lead nowhere or out of the root are left out, as are devices,
    pipes and sockets. Raises OutsideRoot.
    """
    descriptor = _open(root, path, os.O_RDONLY | os.O_DIRECTORY)
    if descriptor is None:
        return []
    try:
        names = sorted(name for name in os.listdir(descriptor) if after is None or name > after)  # noqa: PTH208
        entries: list[Entry] = []
        for entry in _entries(root, path, descriptor, names):
            entries.append(entry)
            if len(entries) == limit:
                break
        return entries
    finally:
        os.close(descriptor)


def _entries(root: str, path: str, descriptor: int, names: list[str]) -> Iterator[Entry]:
    for name in names:
        try:
            facts = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
        except FileNotFoundError:
            continue
        if stat.S_ISLNK(facts.st_mode):
            target = _linked(root, f"{path}/{name}")
            if target is None:
                continue
            facts = target
        if stat.S_ISDIR(facts.st_mode):
            yield Entry(name, True)
        elif stat.S_ISREG(facts.st_mode):
            yield Entry(name, False, facts.st_size, facts.st_mtime_ns // 1_000_000)


def _linked(root: str, path: str) -> os.stat_result | None:
    try:
        descriptor = _open(root, path, os.O_PATH)
    except OutsideRoot:
        return None
    if descriptor is None:
        return None
    try:
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)


def _open(root: str, path: str, flags: int) -> int | None:
    """Open what ``path`` resolves to, below ``root``. None where there is nothing of that kind to open."""
    real_root = os.path.realpath(root)
    try:
        real = PurePosixPath(os.path.realpath(path))
        parts = real.relative_to(real_root).parts
    except ValueError:
        raise OutsideRoot(path) from None
    flags |= os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        current = os.open(real_root, flags if not parts else os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        for index, part in enumerate(parts):
            last = index == len(parts) - 1
            step = flags if last else os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                following = os.open(part, step, dir_fd=current)
            finally:
                os.close(current)
            current = following
        return current
    except OSError:
        # Absent, of another kind, not permitted, or changed since it was resolved: there is nothing to read here.
        return None
