"""The data disks of a file server: an image of their size, mounted in the file server's own mount namespace.

The image is sparse and holds ext4, so that who writes more than the disks hold gets ENOSPC as from a real disk. Several
disks are one volume of their sum (the original made a RAID 0 of them). Without loop devices or ``mkfs.ext4`` the files
lie in the file server's directory itself and nothing limits them; what was begun in one way goes on in it.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

#: The image and the place where it is mounted, in the file server's directory.
IMAGE, MOUNTED = "disk.img", "data"
#: What one file can be at most where the home's own file system is an ext4 with blocks of 4 KiB (ext4(5)).
_LARGEST = 16 * 2**40 - 2**30
_LOOP_CONTROL = "/dev/loop-control"
_TOOL_SECONDS = 300.0
#: e2fsck(8): 1 and 2 say that errors were corrected.
_CORRECTED = 3


class DiskError(Exception):
    """The disks cannot be had; the message says why, with the tool's own words."""


@dataclass(frozen=True, slots=True)
class Disks:
    """Where the data lies, and what is missing."""

    directory: str
    #: Why their size is not the one that was asked for, or not enforced; empty when it is.
    missing: str = ""


def attach(folder: Path, size: int) -> Disks:
    """Make the disks of ``size`` bytes where there are none, and mount them. In the mount namespace of their server.

    Raises DiskError.
    """
    image = folder / IMAGE
    try:
        plain = not image.exists() and any(path.name != MOUNTED for path in folder.iterdir())
        why_not = _why_no_image()
        if plain or (why_not and not image.exists()):
            why = why_not or "its files have been in a plain directory from the start"
            return Disks(str(folder), f"the size of its disks is not enforced: {why}")
        if why_not:
            raise DiskError(f"its disks are the image {image}, and {why_not}")
        missing = "" if image.exists() else _make(image, size)
        return Disks(_mount(image, folder / MOUNTED), missing)
    except OSError as error:
        raise DiskError(f"{error.filename or image}: {error.strerror}") from error


def _why_no_image() -> str:
    if shutil.which("mkfs.ext4") is None:
        return "mkfs.ext4 is not installed (apt-get install e2fsprogs)"
    if not os.access(_LOOP_CONTROL, os.W_OK):
        return "this machine offers no loop devices (/dev/loop-control)"
    return ""


def _make(image: Path, size: int) -> str:
    """A sparse image with an empty file system. It has its name only when it is complete."""
    new = image.with_suffix(".new")
    missing = ""
    with open(new, "wb") as file:
        try:
            file.truncate(size)
        except OSError as error:
            if error.errno != errno.EFBIG or size <= _LARGEST:
                raise
            file.truncate(_LARGEST)
            missing = f"its disks are {_LARGEST // 2**30} GB together: one file of this machine can be no larger"
    lazy = "lazy_itable_init=1,lazy_journal_init=1,nodiscard"
    try:
        _run("mkfs.ext4", "-q", "-F", "-m", "0", "-E", lazy, str(new))
        new.rename(image)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    return missing


def _mount(image: Path, target: Path) -> str:
    _run("e2fsck", "-p", str(image), allowed=_CORRECTED)
    target.mkdir(mode=0o700, exist_ok=True)
    _run("mount", "-t", "ext4", "-o", "loop,nosuid,nodev", str(image), str(target))
    with suppress(OSError):
        # Nobody but e2fsck needs it, which makes it again.
        (target / "lost+found").rmdir()
    return str(target)


def _run(*command: str, allowed: int = 0) -> None:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_TOOL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DiskError(f"{command[0]} took longer than {_TOOL_SECONDS:g} s") from error
    if done.returncode & ~allowed:
        raise DiskError(f"{command[0]} ended with exit code {done.returncode}: {done.stdout.decode().strip()[-500:]}")
