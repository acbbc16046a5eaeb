"""Reading files below a directory that jobs write to, without ever being led out of it.

Jobs may make symbolic links, also while a request is served. A path is resolved first and must then lie below the root;
it is opened by walking from the root without following links, so that nothing changed in between leads elsewhere.

Where jobs have users of their own, the walk has the rights of the user whose files they are: a link into the files of
another workspace, which shares the root, leads nowhere.
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath


class OutsideRoot(Exception):
    """The path leads out of the root."""


_libc = ctypes.CDLL(None)
_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NOBODY = 65534


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or directory in a listing. Size and time (Unix ms) are those of files."""

    name: str
    is_directory: bool
    size: int = 0
    modified_at: int = 0


def open_file(root: str, path: str, own: str | None = None) -> int | None:
    """A descriptor of the regular file at an absolute ``path`` below ``root``; None where there is no such file.

    ``own`` is the folder on the way to which the first owner's rights count who is not root. The caller closes it.
    Raises OutsideRoot.
    """
    descriptor = _open(root, path, os.O_RDONLY, own)
    if descriptor is None:
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    return descriptor


def list_directory(root: str, path: str, after: str | None, limit: int, own: str | None = None) -> list[Entry]:
    """Up to ``limit`` entries of a directory, in order of name, after a name; empty where there is no such directory.

    Links are shown as what they lead to; those that lead nowhere or out of the root are left out, as are devices,
    pipes and sockets. ``own`` as for open_file. Raises OutsideRoot.
    """
    descriptor = _open(root, path, os.O_RDONLY | os.O_DIRECTORY, own)
    if descriptor is None:
        return []
    try:
        names = sorted(name for name in os.listdir(descriptor) if after is None or name > after)  # noqa: PTH208
        entries: list[Entry] = []
        for entry in _entries(root, path, descriptor, names, own):
            entries.append(entry)
            if len(entries) == limit:
                break
        return entries
    finally:
        os.close(descriptor)


def _entries(root: str, path: str, descriptor: int, names: list[str], own: str | None) -> Iterator[Entry]:
    for name in names:
        try:
            facts = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
        except FileNotFoundError:
            continue
        if stat.S_ISLNK(facts.st_mode):
            target = _linked(root, f"{path}/{name}", own)
            if target is None:
                continue
            facts = target
        if stat.S_ISDIR(facts.st_mode):
            yield Entry(name, True)
        elif stat.S_ISREG(facts.st_mode):
            yield Entry(name, False, facts.st_size, facts.st_mtime_ns // 1_000_000)


def _linked(root: str, path: str, own: str | None) -> os.stat_result | None:
    try:
        descriptor = _open(root, path, os.O_PATH, own)
    except OutsideRoot:
        return None
    if descriptor is None:
        return None
    try:
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)


def _open(root: str, path: str, flags: int, own: str | None) -> int | None:
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
        with _rights_of(_owner(root, own)):
            for index, part in enumerate(parts):
                last = index == len(parts) - 1
                step = flags if last else _STEP
                try:
                    following = os.open(part, step, dir_fd=current)
                finally:
                    os.close(current)
                current = following
            return current
    except OSError:
        # Absent, of another kind, not permitted, or changed since it was resolved: there is nothing to read here.
        return None


def _owner(root: str, own: str | None) -> int:
    """The first on the way from ``root`` to ``own`` who is not the machine's root: a workspace's user, or a job's.

    Root where all of it is root's; nobody when it is not there or reached by a link.
    """
    if own is None or os.geteuid() != 0:
        return 0
    try:
        current = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for part in PurePosixPath(own).relative_to(root).parts:
                following = os.open(part, _STEP, dir_fd=current)
                os.close(current)
                current = following
                if owner := os.fstat(current).st_uid:
                    return owner
            return 0
        finally:
            os.close(current)
    except (OSError, ValueError):
        return _NOBODY


@contextmanager
def _rights_of(uid: int) -> Iterator[None]:
    """Access files as this user, in the calling thread alone (setfsuid(2), capabilities(7)); 0 changes nothing."""
    if uid == 0:
        yield
        return
    group = _libc.setfsgid(ctypes.c_uint(uid))
    user = _libc.setfsuid(ctypes.c_uint(uid))
    try:
        yield
    finally:
        _libc.setfsuid(ctypes.c_uint(user))
        _libc.setfsgid(ctypes.c_uint(group))
