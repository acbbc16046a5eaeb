"""The few Linux calls that Python 3.11 does not offer: namespaces, mounts, host name, rights, parent-death signal.

Each raises OSError with the call's name, so that callers can say what was not permitted.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MNT_DETACH = 0x2
MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
_MOUNT_ATTR_IDMAP = 0x100000

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAP_KILL = 5
#: Version 3 of the interface, for the caller itself.
_CAPABILITY_HEADER = struct.pack("Ii", 0x20080522, 0)

# Calls of Linux 5.2 and 5.12 that C libraries learnt later; their numbers are the same on all common machines.
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x1000, 0x8000
_OPEN_TREE_CLONE, _OPEN_TREE_CLOEXEC = 1, os.O_CLOEXEC
_MOVE_MOUNT_F_EMPTY_PATH, _MOVE_MOUNT_T_EMPTY_PATH = 0x4, 0x40

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, call: str, subject: str | None = None) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}", subject)


def unshare(flags: int) -> None:
    """Leave the namespaces of the given kinds for new ones (unshare(2))."""
    _check(_libc.unshare(ctypes.c_int(flags)), "unshare")


def enter_namespace(descriptor: int, kind: int) -> None:
    """Join the namespace that the descriptor is open on (setns(2)); for PID namespaces the children do."""
    _check(_libc.setns(ctypes.c_int(descriptor), ctypes.c_int(kind)), "setns")


def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """mount(2)."""
    result = _libc.mount(
        os.fsencode(source),
        os.fsencode(target),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        data.encode() if data else None,
    )
    _check(result, "mount", target)


def clone_tree(path: str, *, recursive: bool = True) -> int:
    """A copy of what is mounted at and below the path, as a descriptor that is attached nowhere yet (open_tree(2)).

    Not ``recursive``: without what is mounted below.
    """
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | (_AT_RECURSIVE if recursive else 0)
    found = _libc.syscall(_OPEN_TREE, ctypes.c_int(_AT_FDCWD), os.fsencode(path), ctypes.c_uint(flags))
    _check(min(found, 0), "open_tree", path)
    return int(found)


def attach_tree(tree: int, target: str | int) -> None:
    """Mount what ``clone_tree`` gave at a path, or over an open directory (move_mount(2))."""
    folder, path = (target, "") if isinstance(target, int) else (_AT_FDCWD, target)
    result = _libc.syscall(
        _MOVE_MOUNT,
        ctypes.c_int(tree),
        b"",
        ctypes.c_int(folder),
        os.fsencode(path),
        ctypes.c_uint(_MOVE_MOUNT_F_EMPTY_PATH | (0 if path else _MOVE_MOUNT_T_EMPTY_PATH)),
    )
    _check(result, "move_mount", path or None)


def restrict_mounts(where: str | int, attributes: int) -> None:
    """Set attributes of all mounts at and below a path or a cloned tree (mount_setattr(2), Linux 5.12)."""
    wanted = struct.pack("QQQQ", attributes, 0, 0, 0)
    folder, path, empty = (where, "", _AT_EMPTY_PATH) if isinstance(where, int) else (_AT_FDCWD, where, 0)
    result = _libc.syscall(
        _MOUNT_SETATTR,
        ctypes.c_int(folder),
        os.fsencode(path),
        ctypes.c_uint(_AT_RECURSIVE | empty),
        wanted,
        ctypes.c_size_t(len(wanted)),
    )
    _check(result, "mount_setattr", path or None)


def map_ids(tree: int, users: int) -> None:
    """Show owners on a cloned tree as an open user namespace maps them (mount_setattr(2), MOUNT_ATTR_IDMAP)."""
    wanted = struct.pack("QQQQ", _MOUNT_ATTR_IDMAP, 0, 0, users)
    result = _libc.syscall(
        _MOUNT_SETATTR,
        ctypes.c_int(tree),
        b"",
        ctypes.c_uint(_AT_EMPTY_PATH),
        wanted,
        ctypes.c_size_t(len(wanted)),
    )
    _check(result, "mount_setattr")


def mount_info() -> bytes:
    """What is mounted in the caller's mount namespace (proc(5), mountinfo), but for marks of deleted sources.

    Where ``/proc`` is that of a PID namespace below, the caller is not in it; process 1 there, the keeper, has the same
    mounts.
    """
    try:
        with open("/proc/self/mountinfo", "rb") as file:
            found = file.read()
    except FileNotFoundError:
        with open("/proc/1/mountinfo", "rb") as file:
            found = file.read()
    return found.replace(b"//deleted", b"")


def unmount(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    _check(_libc.umount2(os.fsencode(target), ctypes.c_int(flags)), "umount2", target)


def set_host_name(name: str) -> None:
    """sethostname(2), in the UTS namespace of the caller."""
    encoded = name.encode()
    _check(_libc.sethostname(encoded, ctypes.c_size_t(len(encoded))), "sethostname", name)


def set_parent_death_signal(signal_number: int) -> None:
    """The kernel sends this signal to the caller when its parent ends (prctl(2), PR_SET_PDEATHSIG); 0 for none.

    Does not outlive a change of credentials: it is set after namespaces are made, and again after each change.
    """
    _check(_libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal_number), 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")


def become_subreaper(wanted: bool = True) -> None:
    """Orphans among the descendants become children of the caller, or no more (prctl(2), PR_SET_CHILD_SUBREAPER)."""
    _check(_libc.prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(wanted), 0, 0, 0), "prctl(PR_SET_CHILD_SUBREAPER)")


def forbid_new_privileges() -> None:
    """No program that the caller or its descendants start gains rights by set-user-ID or file capabilities, ever."""
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl(PR_SET_NO_NEW_PRIVS)")
    _check(_libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), "prctl(PR_CAP_AMBIENT)")


def forbid_inspection() -> None:
    """No process without CAP_SYS_PTRACE over the machine may look into the caller (PR_SET_DUMPABLE, ptrace(2))."""
    _check(_libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0), "prctl(PR_SET_DUMPABLE)")


def drop_capabilities() -> None:
    """Give up every capability (capset(2))."""
    _check(_libc.capset(_CAPABILITY_HEADER, bytes(24)), "capset")


def keep_capabilities(kept: Iterable[int]) -> None:
    """Give up all others, for the programs that the caller starts too (capability bounding set)."""
    wanted = sum(1 << capability for capability in kept)
    for capability in range(64):
        if not wanted >> capability & 1:
            # EINVAL beyond the last that the kernel knows.
            _libc.prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0)
    permitted = permitted_capabilities()
    low, high = permitted[0] & wanted & 0xFFFFFFFF, permitted[1] & wanted >> 32
    data = struct.pack("6I", low, low, 0, high, high, 0)
    _check(_libc.capset(_CAPABILITY_HEADER, data), "capset")


def permitted_capabilities() -> tuple[int, int]:
    """Those that the caller may use, as two masks of 32 (capget(2))."""
    data = ctypes.create_string_buffer(24)
    _check(_libc.capget(_CAPABILITY_HEADER, data), "capget")
    words = struct.unpack("6I", data.raw)
    return words[1], words[4]


def use_only_kill(permitted: tuple[int, int]) -> None:
    """Use the right to signal everybody (CAP_KILL), and no other; all stay permitted."""
    data = struct.pack("6I", 1 << _CAP_KILL, permitted[0], 0, 0, permitted[1], 0)
    _check(_libc.capset(_CAPABILITY_HEADER, data), "capset")
