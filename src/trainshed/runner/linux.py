"""The few Linux calls that Python 3.11 does not offer: namespaces, mounts, host name, parent-death signal.

Each raises OSError with the call's name, so that callers can say what was not permitted.
"""

from __future__ import annotations

import ctypes
import os

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000

MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MNT_DETACH = 0x2

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

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


def mount(source: str, target: str, kind: str | None, flags: int) -> None:
    """mount(2) without data."""
    result = _libc.mount(
        os.fsencode(source), os.fsencode(target), kind.encode() if kind else None, ctypes.c_ulong(flags), None
    )
    _check(result, "mount", target)


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

    Does not outlive a change of credentials, so it is set after namespaces are made.
    """
    _check(_libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal_number), 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")


def become_subreaper() -> None:
    """Orphans among the descendants become children of the caller (prctl(2), PR_SET_CHILD_SUBREAPER)."""
    _check(_libc.prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1), 0, 0, 0), "prctl(PR_SET_CHILD_SUBREAPER)")
