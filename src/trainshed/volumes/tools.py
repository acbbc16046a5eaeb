"""What this machine has to mount volumes with (``trainshed doctor``)."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from trainshed.volumes import blobfuse, cifs, rclone

_FUSE = "/dev/fuse"


@dataclass(frozen=True, slots=True)
class Tools:
    """What mounts which kind, and what is missing with what would mend it."""

    found: tuple[str, ...]
    missing: tuple[str, ...]
    mend: str


def tools() -> Tools:
    """Look; takes some ten milliseconds."""
    found, missing, mends = (
        ["embedded accounts by bind mounts" if os.geteuid() == 0 else "embedded accounts by links"],
        [],
        [],
    )
    program = rclone.find()
    with_rclone = ".".join(map(str, rclone.version(program))) if program else ""
    for kind, native in (
        ("Azure Files", "the kernel's SMB client" if cifs.kernel_has_it() else ""),
        ("Azure Blob", "blobfuse2" if blobfuse.is_installed() else ""),
    ):
        if native or with_rclone:
            found.append(f"{kind} by {native or f'rclone {with_rclone}'}")
        else:
            missing.append(f"nothing mounts {kind}")
    if not with_rclone:
        mends.append(rclone.HOW_TO_INSTALL)
    if not Path(_FUSE).exists():
        missing.append(f"there is no {_FUSE}, which rclone and blobfuse2 need")
        mends.append("load the kernel module fuse, or start the container with --device /dev/fuse")
    elif not (shutil.which("fusermount3") or shutil.which("fusermount")):
        missing.append("there is no fusermount3, which rclone and blobfuse2 need")
        mends.append("apt-get install fuse3")
    return Tools(tuple(found), tuple(missing), "; ".join(mends))
