"""A root that is nobody on the machine: where setup tasks and mount commands of users run.

A *ground* is a user namespace whose root is an unprivileged id of the machine, and a mount namespace that belongs to
it: what is mounted there (bind mounts, tmpfs, FUSE) is seen by whoever enters it, and nothing of the machine can be
unmounted, since what was there before is locked (user_namespaces(7), mount_namespaces(7)).
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from trainshed.resources.users import JobUser
from trainshed.runner import linux
from trainshed.runner.hands import become, take_identity

_MADE, _MAPPED = b"m", b"g"


@dataclass(frozen=True, slots=True)
class Ground:
    """The two namespaces, as open descriptors, and the workspace whose root they have."""

    user: JobUser
    mounts: int
    users: int

    @property
    def descriptors(self) -> set[int]:
        """For those who close everything else."""
        return {self.mounts, self.users}

    def close(self) -> None:
        """Let go of them; they live on while somebody is inside."""
        for descriptor in self.descriptors:
            with suppress(OSError):
                os.close(descriptor)


class NewGround:
    """A child of the caller becomes root of a new ground; the caller, who is the machine's root, helps it."""

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair()

    def make(self, prepare: Callable[[], None], inside: int | None = None) -> None:
        """The child's part. ``prepare`` runs as the machine's root, before; ``inside`` is a user namespace to use
        instead of a new one. Afterwards the caller is the ground's root. Raises OSError.
        """
        self._ours.close()
        sys.meta_path.clear()
        try:
            prepare()
            if inside is None:
                linux.unshare(linux.CLONE_NEWUSER | linux.CLONE_NEWNS)
            else:
                linux.enter_namespace(inside, linux.CLONE_NEWUSER)
                linux.unshare(linux.CLONE_NEWNS)
            linux.mount("none", "/", None, linux.MS_REC | linux.MS_PRIVATE)
        except OSError as error:
            self._theirs.sendall(f"{error.strerror}: {error.filename or ''}".encode())
            raise
        self._theirs.sendall(_MADE)
        if self._theirs.recv(16) != _MAPPED:
            raise OSError(1, "the ids of the user namespace were not mapped")
        self._theirs.close()
        take_identity(0)

    def open(self, child: int, user: JobUser, users: int | None = None) -> Ground:
        """The caller's part: map the ids, and open the namespaces. Raises OSError with what the child could not do."""
        self._theirs.close()
        try:
            said = self._ours.recv(1024)
            if said != _MADE:
                raise OSError(0, said.decode(errors="replace") or "the process that makes them died")
            if users is None:
                for name in ("uid_map", "gid_map"):
                    with open(f"/proc/{child}/{name}", "w") as file:
                        file.write(f"0 {user.root} 1\n{user.uid} {user.uid} 1\n")
            ground = Ground(user, _open_namespace(child, "mnt"), _open_namespace(child, "user"))
            self._ours.sendall(_MAPPED)
        finally:
            self._ours.close()
        return ground


def enter(ground: Ground) -> None:
    """Turn the calling child for good into the ground's root. Raises OSError."""
    become(0, ground.mounts, ground.users)


def reset_child() -> None:
    """A forked child is not what its parent was: no wake-up descriptor, and the kernel's own signal actions."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _open_namespace(pid: int, kind: str) -> int:
    return os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
