"""``mountOptions`` of a file server: what each client does of them, and the refusal of others, by name."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: What the kernel's client gets as it is (nfs(5), mount(8)). Addresses and ports are the service's own affair.
_OF_THE_KERNEL = re.compile(
    r"(ro|rw|hard|soft|softerr|intr|nointr|sync|async|ac|noac|cto|nocto|lock|nolock|fg|tcp|proto=tcp|nofail|_netdev"
    r"|defaults|noatime|nodiratime|relatime|strictatime|exec|noexec|suid|nosuid|dev|nodev|sharecache|nosharecache"
    r"|(timeo|retrans|rsize|wsize|acregmin|acregmax|acdirmin|acdirmax|actimeo|nconnect|retry)=\d{1,9}"
    r"|(nfs)?vers=(3|4|4\.0|4\.1|4\.2)|lookupcache=(all|none|pos|positive)|local_lock=(all|flock|posix|none))",
    re.ASCII,
)
#: What the client in user space does anyway.
_ALWAYS = {"rw", "hard", "async", "ac", "cto", "tcp", "proto=tcp", "fg", "nofail", "_netdev", "defaults", "nointr"}
_ALWAYS |= {"vers=3", "nfsvers=3", "nolock", "local_lock=all", "exec", "nosuid", "nodev"}
#: What means nothing to it and changes nothing that a program could notice.
_WITHOUT_EFFECT = re.compile(
    r"noatime|nodiratime|relatime|strictatime|((rsize|wsize|nconnect|retry)=\d{1,9})", re.ASCII
)
#: Seconds for which it believes what it was told of attributes, unless actimeo says otherwise.
BELIEVED = 1


class UnknownOptions(Exception):
    """Options that the client has not; the message names them and what there is."""


@dataclass(frozen=True, slots=True)
class UserSpaceOptions:
    """What is left for the client in user space to do."""

    read_only: bool = False
    no_exec: bool = False
    believed: int = BELIEVED


def split(text: str | None) -> list[str]:
    """The options one by one. ``-o`` before them is what fstab and mount(8) users write."""
    return [option for option in re.split(r"[,\s]+", text or "") if option and option != "-o"]


def for_kernel(text: str | None) -> list[str]:
    """For ``mount -o``. Raises UnknownOptions."""
    options = split(text)
    _refuse([option for option in options if not _OF_THE_KERNEL.fullmatch(option)], "see nfs(5)")
    return options


def for_user_space(text: str | None) -> UserSpaceOptions:
    """For the client in user space. Raises UnknownOptions, also for what only the kernel's client can do."""
    read_only = no_exec = False
    believed = BELIEVED
    unknown = []
    for option in split(text):
        seconds = re.fullmatch(r"actimeo=(\d{1,9})", option, re.ASCII)
        if option in ("ro", "rw"):
            read_only = option == "ro"
        elif option in ("noexec", "exec"):
            no_exec = option == "noexec"
        elif option == "noac" or seconds:
            believed = int(seconds[1]) if seconds else 0
        elif option not in _ALWAYS and not _WITHOUT_EFFECT.fullmatch(option):
            unknown.append(option)
    there = "ro, rw, noexec, noac, actimeo=SECONDS, noatime, rsize=, wsize=, vers=3 and hard"
    _refuse(unknown, f"the NFS client in user space, which is used where the kernel has none, has {there}")
    return UserSpaceOptions(read_only, no_exec, believed)


def _refuse(unknown: list[str], there: str) -> None:
    if unknown:
        noun = "option" if len(unknown) == 1 else "options"
        raise UnknownOptions(
            f"its mountOptions have the {noun} {', '.join(unknown)}, which cannot be honoured: {there}"
        )
