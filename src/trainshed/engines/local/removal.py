"""Deletes the directory of a node that is gone, and never what is mounted in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from trainshed.runner import linux, trees

_UNMOUNT_SECONDS = 10.0


def delete(folder: Path) -> None:
    """Remove the folder with all below it. What a killed job left mounted there is detached first; when that is not
    possible the folder stays, since its contents may be somebody's data.
    """
    for target in mounted_below(folder):
        detach(target)
    left = mounted_below(folder)
    if left:
        print(f"{folder} is not deleted: {left[0]} is still mounted", file=sys.stderr, flush=True)
        return
    with suppress(OSError):
        trees.empty(str(folder))
        folder.rmdir()


def mounted_below(folder: Path) -> list[str]:
    """Mount points at or below a folder, the innermost first (proc(5), mountinfo)."""
    real = os.path.realpath(folder)
    with open("/proc/self/mountinfo") as mounts:
        targets = [line.split(" ", 5)[4].encode().decode("unicode_escape") for line in mounts]
    return [target for target in reversed(targets) if target == real or target.startswith(f"{real}/")]


def detach(target: str) -> None:
    """Unmount, or what FUSE has for those who are not root. That it did not work is seen by looking again."""
    try:
        linux.unmount(target, linux.MNT_DETACH)
    except OSError:
        program = shutil.which("fusermount3") or shutil.which("fusermount")
        if not program:
            return
        with suppress(OSError, subprocess.SubprocessError):
            subprocess.run(
                [program, "-u", "-z", target],
                stdin=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=_UNMOUNT_SECONDS,
                check=False,
            )
