"""Puts a mounted volume where it is wanted: below a directory of the service, and through no link that a job made.

The caller is the machine's root, or the service's own user where that is not to be had; then a volume that is a
directory is a symbolic link.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from trainshed.resources.users import JobUser
from trainshed.runner import linux

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Base:
    """The directory below which volumes appear. ``path`` is the service's own; what is below may be made by jobs."""

    path: str
    #: From there to the mount root.
    below: str = ""
    #: Whose the directories on the way to the mount root are; None: the service's own user's.
    owner: JobUser | None = None

    @property
    def root(self) -> str:
        """The mount root."""
        return f"{self.path}/{self.below}" if self.below else self.path


def open_place(base: Base, relative: str) -> int:
    """The directory of a mount point, made if need be. Raises OSError; a link on the way is one."""
    folder = os.open(base.path, _FOLDER & ~os.O_NOFOLLOW)
    parts = [(name, base.owner) for name in base.below.split("/") if name]
    parts += [(name, None) for name in relative.split("/") if name]
    for name, owner in parts:
        outer = folder
        try:
            folder = _enter(outer, name, owner)
        finally:
            os.close(outer)
    return folder


def _enter(outer: int, name: str, owner: JobUser | None) -> int:
    made = False
    with suppress(FileExistsError):
        os.mkdir(name, 0o755, dir_fd=outer)
        made = True
    inner = os.open(name, _FOLDER, dir_fd=outer)
    if made and owner is not None:
        os.fchown(inner, owner.uid, owner.uid)
    return inner


def hide(tree: int) -> None:
    """Take away a cloned tree that was attached; who uses it goes on doing so. Raises OSError."""
    try:
        linux.unmount(f"/proc/self/fd/{tree}", linux.MNT_DETACH)
    finally:
        os.close(tree)


def link(directory: str, base: Base, relative: str) -> None:
    """Where nothing can be mounted: a symbolic link to the directory. Raises OSError."""
    outer_path, _, name = relative.rpartition("/")
    outer = open_place(base, outer_path)
    try:
        with suppress(FileNotFoundError):
            if os.readlink(name, dir_fd=outer) == directory:
                return
            os.unlink(name, dir_fd=outer)
        os.symlink(directory, name, dir_fd=outer)
    except OSError as error:
        if error.errno != errno.EINVAL:  # something else than a link: an empty directory gives way
            raise
        os.rmdir(name, dir_fd=outer)
        os.symlink(directory, name, dir_fd=outer)
    finally:
        os.close(outer)


def unlink(directory: str, base: Base, relative: str) -> None:
    """Remove what ``link`` made."""
    path = f"{base.root}/{relative}"
    with suppress(OSError):
        if os.readlink(path) == directory:  # noqa: PTH115
            os.unlink(path)  # noqa: PTH108


@contextmanager
def shown_as(user: JobUser, owner: int, group: int) -> Iterator[int]:
    """A user namespace, as an open descriptor, in which what is the owner's on disk is the job's user's.

    What the workspace's root made (``JobUser.root``) stays its own. Raises OSError.
    """
    ready, go_on = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(ready)
            signal.set_wakeup_fd(-1)
            linux.set_parent_death_signal(signal.SIGKILL)
            linux.unshare(linux.CLONE_NEWUSER)
            os.write(go_on, b"m")
            signal.pause()
        finally:
            os._exit(0)
    os.close(go_on)
    try:
        if os.read(ready, 1) != b"m":
            raise OSError(errno.EPERM, "a user namespace cannot be made")
        for name, number in (("uid_map", owner), ("gid_map", group)):
            with open(f"/proc/{pid}/{name}", "w") as file:
                file.write(f"{number} {user.uid} 1\n{user.root} {user.root} 1\n")
        users = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(ready)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    try:
        yield users
    finally:
        os.close(users)
