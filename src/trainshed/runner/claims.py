"""Generated folders on a directory that several workspaces share: each workspace has one of its own.

Below a prefix that the user chose, the contract's path is ``{subscription}/{group}/workspaces/{workspace}/...``. Root
makes what is above ``{workspace}``, sticky and open to all, so that others can make theirs beside; ``{workspace}``
itself belongs to the workspace's user and is closed to others. Everything below is made with that user's rights.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from trainshed.resources import directories
from trainshed.resources.users import JobUser
from trainshed.runner import trees

_WORKSPACES = "workspaces"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: Of what all may add to and nobody may take from.
SHARED_MODE = 0o1777
_OWN_MODE = 0o700


def claim(root: str, path: str, segment: str, user: JobUser) -> None:
    """Make sure of the workspace's own folder on the way from ``root`` to ``path``, as the machine's root.

    ``root`` is the service's own; below it no link is followed, and what somebody else made is left as it is: whether
    the workspace's user may use it is then seen when that user tries. Raises OSError.
    """
    found = _above_own(root, path, segment, _WORKSPACES)
    if found is not None:
        folder, own = found
        try:
            if own:
                _own(folder, own, user)
        finally:
            os.close(folder)


def claim_for_job(root: str, path: str, segment: str, uid: int, gid: int) -> None:
    """The same where users of one workspace may be several of the machine's: the folder of the job is the user's own.

    Raises OSError.
    """
    found = _above_own(root, path, segment, "")
    if found is None:
        return
    folder, own = found
    try:
        inner = _enter(folder, own) if own else None
        if inner is None:
            return
        try:
            if os.fstat(inner).st_uid == 0:
                os.fchmod(inner, _OWN_MODE)
                os.fchown(inner, uid, gid)
        finally:
            os.close(inner)
    finally:
        os.close(folder)


def open_to_all(root: str) -> None:
    """The root of what a cluster's workspaces share. Raises OSError."""
    folder = os.open(root, _FOLDER)
    try:
        if stat.S_IMODE(os.fstat(folder).st_mode) != SHARED_MODE:
            os.fchmod(folder, SHARED_MODE)
    finally:
        os.close(folder)


def _above_own(root: str, path: str, segment: str, kind: str) -> tuple[int, str] | None:
    """The shared folder above the own one, open and made if need be, and the own one's name; None for what is not
    below the root or not to be shared.
    """
    if not directories.is_below(path, root):
        return None
    below = [part for part in path[len(root) :].split("/") if part]
    if ".." in below or "." in below:
        return None
    shared, own = _split(below, [part for part in segment.split("/") if part], kind)
    folder = os.open(root, _FOLDER)
    try:
        for name in shared:
            inner = _shared(folder, name)
            if inner is None:
                os.close(folder)
                return None
            os.close(folder)
            folder = inner
    except OSError:
        os.close(folder)
        raise
    return folder, own


def _split(below: list[str], segment: list[str], kind: str) -> tuple[list[str], str]:
    """Folders that are shared, and the own one, on a path that may contain the segment.

    The own one is what follows ``kind`` in the segment; the last of it where that is empty, the first where it is not
    there.
    """
    for start in range(len(below) - len(segment) + 1):
        if segment and below[start : start + len(segment)] == segment:
            place = len(segment) - 1 if not kind else segment.index(kind) + 1 if kind in segment[:-1] else 0
            return below[: start + place], below[start + place]
    return below, ""


def _shared(folder: int, name: str) -> int | None:
    """A folder that root made and all may add to; None when it is somebody else's."""
    inner = _enter(folder, name)
    if inner is None:
        return None
    facts = os.fstat(inner)
    if facts.st_uid != 0:
        os.close(inner)
        return None
    if stat.S_IMODE(facts.st_mode) != SHARED_MODE:
        os.fchmod(inner, SHARED_MODE)
    return inner


def _own(folder: int, name: str, user: JobUser) -> None:
    inner = _enter(folder, name)
    if inner is None:
        return
    try:
        owner = os.fstat(inner).st_uid
        if owner == 0:
            trees.adopt(inner, user.uid)  # new, or of the time before workspaces had users
        elif owner == user.root:
            os.fchown(inner, user.uid, user.uid)
        if owner in (0, user.root):
            os.fchmod(inner, _OWN_MODE)
    finally:
        os.close(inner)


def _enter(folder: int, name: str) -> int | None:
    """The folder of this name, made if need be; None when there is something else."""
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=folder)
    try:
        return os.open(name, _FOLDER, dir_fd=folder)
    except OSError:
        return None
