"""What this machine has to mount volumes with (``trainshed doctor``)."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from trainshed.volumes import blobfuse, cifs, file_server, rclone

_FUSE = "/dev/fuse"
_FILE_SYSTEMS = "/proc/filesystems"


@dataclass(frozen=True, slots=True)
class Tool:
    """What mounts one kind, or that nothing does with what would mend it."""

    kind: str
    ok: bool
    detail: str
    mend: str = ""


def tools() -> list[Tool]:
    """Look; takes some ten milliseconds."""
    program = rclone.find()
    by_rclone = f"by rclone {'.'.join(map(str, rclone.version(program)))}" if program else ""
    return [
        _user_space(),
        _share(by_rclone),
        _container(by_rclone),
        _by_rclone("S3 buckets", by_rclone),
        _by_rclone("SFTP directories", by_rclone),
        _program("git repositories", "git", "apt-get install git"),
    ]


def kernel_nfs() -> str:
    """Whether the kernel's NFS client is used for file servers, else what it lacks."""
    return (
        "the kernel's NFS client"
        if file_server.kernel_has_nfs()
        else _lacks("nfs4", "nfsv4", "mount.nfs4", "nfs-common")
    )


def _user_space() -> Tool:
    """What all that is not the kernel's needs."""
    kind = "volumes"
    embedded = "embedded accounts by bind mounts" if os.geteuid() == 0 else "embedded accounts by links"
    if not Path(_FUSE).exists():
        mend = "load the kernel module fuse, or start the container with --device /dev/fuse"
        return Tool(kind, False, f"there is no {_FUSE}, which rclone and blobfuse2 need; {embedded}", mend)
    if not (shutil.which("fusermount3") or shutil.which("fusermount")):
        what = f"there is no fusermount3, which rclone and blobfuse2 need; {embedded}"
        return Tool(kind, False, what, "apt-get install fuse3")
    return Tool(kind, True, f"{embedded}; in user space by {_FUSE}")


def _share(by_rclone: str) -> Tool:
    if cifs.kernel_has_it():
        return Tool("Azure Files", True, "by the kernel's SMB client")
    return _by_rclone("Azure Files", by_rclone, _lacks("cifs", "cifs", "mount.cifs", "cifs-utils"))


def _container(by_rclone: str) -> Tool:
    if blobfuse.is_installed():
        return Tool("Azure Blob", True, "by blobfuse2")
    lacks = "blobfuse2 is not installed (apt-get install blobfuse2 from packages.microsoft.com)"
    return _by_rclone("Azure Blob", by_rclone, lacks)


def _by_rclone(kind: str, by_rclone: str, lacks: str = "") -> Tool:
    told = f"; {lacks}" if lacks else ""
    if by_rclone:
        return Tool(kind, True, f"{by_rclone}{told}")
    return Tool(kind, False, f"nothing mounts them: there is no rclone that is new enough{told}", rclone.HOW_TO_INSTALL)


def _program(kind: str, name: str, mend: str) -> Tool:
    found = shutil.which(name)
    return Tool(kind, True, f"by {found}") if found else Tool(kind, False, f"there is no {name}", mend)


def _lacks(file_system: str, module: str, program: str, package: str) -> str:
    """What the kernel's own client lacks here."""
    known = False
    with suppress(OSError), open(_FILE_SYSTEMS) as table:
        known = any(line.split()[-1:] == [file_system] for line in table)
    if not known:
        return f"the kernel has no {file_system} (modprobe {module}, where it is a module)"
    if shutil.which(program) is None:
        return f"the kernel's {file_system} has no {program} (apt-get install {package})"
    return f"the kernel's {file_system} is for root only"
