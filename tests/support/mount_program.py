"""Mounts a volume by its driver, runs a command on it, unmounts it, all in a mount namespace of its own.

Run as ``python mount_program.py REQUEST COMMAND...``: REQUEST is JSON with ``kind``, ``settings``, ``secrets`` of the
volume, whose it is to be (``uid``), and where to mount (``target``, ``folder``); ``{}`` in the command is the mounted
directory. Prints what the driver logs, and its error as ``VolumeError: ...``, if any.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from trainshed.resources.volume_sources import VolumeSource
from trainshed.runner import linux
from trainshed.volumes import MountRequest, VolumeError, mount_managed


def main() -> int:
    """Exit status of the command; 9 when the volume could not be mounted."""
    asked, command = json.loads(sys.argv[1]), sys.argv[2:]
    linux.unshare(linux.CLONE_NEWNS)
    linux.mount("none", "/", None, linux.MS_REC | linux.MS_PRIVATE)
    for name in ("target", "folder"):
        Path(asked[name]).mkdir(parents=True, exist_ok=True)
    source = VolumeSource(asked["kind"], "data", asked["title"], asked["settings"], "/c", asked.get("directory", ""))
    request = MountRequest(
        source=source,
        secrets={f"/c/{name}": value for name, value in asked.get("secrets", {}).items()},
        uid=asked["uid"],
        gid=asked["uid"],
        target=asked["target"],
        folder=asked["folder"],
        cache=asked["folder"],
        shared=asked["folder"],
        node="node",
        log=lambda text: print(text, flush=True),
    )
    try:
        mounted = mount_managed(request)
    except VolumeError as error:
        print(f"VolumeError: {error}", flush=True)
        return 9
    try:
        return subprocess.run([part.replace("{}", mounted.directory) for part in command], check=False).returncode
    finally:
        mounted.flush(10)
        mounted.unmount()


if __name__ == "__main__":
    sys.exit(main())
