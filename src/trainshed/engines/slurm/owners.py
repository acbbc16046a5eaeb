"""Unix users of the site that jobs run as: who they are here, and access to files with their rights.

Files of a job lie in folders of its user's, who may put there what he likes: a link to a file of root's, say. So the
service never touches them as root, but with the rights of that user.
"""

from __future__ import annotations

import ctypes
import os
import platform
import pwd
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainshed.engines.slurm.settings import InvalidSettings

#: Users below this number are a system's own (login.defs(5): UID_MIN); nobody gets one by being called so.
_FIRST_PERSON = 1000
#: setgroups(2) of the calling thread alone: the C library's own function changes those of all threads.
_SETGROUPS = {"x86_64": 116, "aarch64": 159, "riscv64": 159, "ppc64le": 81, "s390x": 206}
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Owner:
    """A Unix user."""

    name: str
    uid: int
    gid: int
    home: str

    @classmethod
    def from_json(cls, data: dict[str, Any] | None) -> Owner | None:
        """From a dictionary of the fields, or None."""
        return cls(**data) if data else None

    @property
    def command(self) -> list[str]:
        """Before a command's words, so that it runs as this user with all of the user's groups (setpriv(1))."""
        return ["setpriv", f"--reuid={self.uid}", f"--regid={self.gid}", "--init-groups", "--inh-caps=-all", "--"]

    @property
    def environment(self) -> dict[str, str]:
        """Variables that say who one is."""
        return {"HOME": self.home, "USER": self.name, "LOGNAME": self.name}


def owner_of(name: str, *, same_name: bool = False) -> Owner:
    """The user of this name. ``same_name``: it is the name of whoever submitted a job, not an administrator's choice.

    Raises InvalidSettings when nothing can run as this user.
    """
    if os.geteuid() != 0:
        raise InvalidSettings(
            f"jobs can run as the Unix user {name!r} only where the service runs as root; leave out 'unix_user', and "
            "they run as the service's own user with the accounts of the map"
        )
    if platform.machine() not in _SETGROUPS:
        raise InvalidSettings(f"'unix_user' is not possible on {platform.machine()}")
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        raise InvalidSettings(
            f"this machine has no Unix user {name!r}; it must know the users of the site, as login nodes do"
        ) from None
    if found.pw_uid == 0 or (same_name and found.pw_uid < _FIRST_PERSON):
        raise InvalidSettings(f"the Unix user {name!r} is one of the system's; give the submitter a rule of another")
    return Owner(found.pw_name, found.pw_uid, found.pw_gid, found.pw_dir)


def owner_by_number(uid: int) -> Owner | None:
    """The user with this number, when there is one."""
    with suppress(KeyError):
        found = pwd.getpwuid(uid)
        return Owner(found.pw_name, found.pw_uid, found.pw_gid, found.pw_dir)
    return None


@contextmanager
def acting_as(owner: Owner | None) -> Iterator[None]:
    """Access files with this user's rights alone, in the calling thread (setfsuid(2)); None changes nothing.

    Nothing may be awaited meanwhile. Raises PermissionError where the service may not.
    """
    if owner is None:
        yield
        return
    groups = os.getgroups()
    _set_groups([])
    group = _libc.setfsgid(ctypes.c_uint(owner.gid))
    user = _libc.setfsuid(ctypes.c_uint(owner.uid))
    try:
        if _libc.setfsuid(ctypes.c_uint(2**32 - 1)) != owner.uid:
            raise PermissionError(1, f"the service may not act as {owner.name}")
        yield
    finally:
        _libc.setfsuid(ctypes.c_uint(user))
        _libc.setfsgid(ctypes.c_uint(group))
        _set_groups(groups)


def _set_groups(groups: list[int]) -> None:
    array = (ctypes.c_uint * len(groups))(*groups)
    if _libc.syscall(_SETGROUPS[platform.machine()], ctypes.c_size_t(len(groups)), array) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"setgroups: {os.strerror(number)}")


def make_folder(path: Path, owner: Owner | None) -> None:
    """A folder in one of the service's own, closed to all but this user (None: the service's). Raises OSError."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if owner is not None and path.lstat().st_uid != owner.uid:
        os.chown(path, owner.uid, owner.gid, follow_symlinks=False)
