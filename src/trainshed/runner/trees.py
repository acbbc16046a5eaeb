"""Removes directory trees that somebody else may have made: no link is followed, no depth is too deep.

Works on descriptors, so that nobody who still lives can lead a removal elsewhere by swapping a directory for a link.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from contextlib import suppress

#: Levels below which directories are moved up before they are removed: paths of any depth take few descriptors.
_DEEP = 48
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def empty(path: str, spare: Collection[str] = ()) -> None:
    """Remove everything below a directory but the entries of these names. Raises OSError.

    Somebody else may remove it at the same time.
    """
    top = os.open(path, _FOLDER)
    try:
        while _clear(top, top, 0, spare):
            pass
    finally:
        os.close(top)


def _clear(folder: int, top: int, depth: int, spare: Collection[str]) -> bool:
    """Remove what is in the folder. True when something was moved up to the top and is still to be removed."""
    with os.scandir(folder) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries if entry.name not in spare]
    moved = False
    for name, is_folder in found:
        with suppress(FileNotFoundError):
            moved |= _remove(folder, name, is_folder, top, depth)
    return moved


def _remove(folder: int, name: str, is_folder: bool, top: int, depth: int) -> bool:
    if not is_folder:
        os.unlink(name, dir_fd=folder)
        return False
    if depth >= _DEEP:
        facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
        os.rename(name, f".removed-{facts.st_dev}-{facts.st_ino}", src_dir_fd=folder, dst_dir_fd=top)
        return True
    inner = os.open(name, _FOLDER, dir_fd=folder)
    try:
        moved = _clear(inner, top, depth + 1, ())
    finally:
        os.close(inner)
    with suppress(FileNotFoundError):
        os.rmdir(name, dir_fd=folder)
    return moved


def adopt(folder: int, uid: int) -> None:
    """Make a tree that root made the user's own: directories, and regular files with one name. Raises OSError.

    Other files, and what others own, stay as they are: a second name may be somebody else's file.
    """
    os.fchown(folder, uid, uid)
    with os.scandir(folder) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries if not _special(entry)]
    for name, is_folder in found:
        try:
            inner = os.open(name, _FOLDER if is_folder else _FILE, dir_fd=folder)
        except OSError:
            continue
        try:
            facts = os.fstat(inner)
            if facts.st_uid == 0 and is_folder:
                adopt(inner, uid)
            elif facts.st_uid == 0 and stat.S_ISREG(facts.st_mode) and facts.st_nlink == 1:
                os.fchown(inner, uid, uid)
        finally:
            os.close(inner)


def _special(entry: os.DirEntry[str]) -> bool:
    return not (entry.is_dir(follow_symlinks=False) or entry.is_file(follow_symlinks=False))
