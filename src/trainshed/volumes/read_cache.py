"""Mounts what rclone can reach, for reading, with a cache on the node's disk that outlives the job.

rclone asks the storage for names, sizes and checksums (or times) and takes a file's content from the cache where they
are what they were. Two of them must not share a cache (rclone.org, "VFS File Caching"), so whoever comes while it is
used reads without it.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

from trainshed.volumes.daemons import requests_waiting
from trainshed.volumes.node_cache import KEPT_SECONDS, name_for, remove_unused, take
from trainshed.volumes.protocol import Mounted, MountRequest
from trainshed.volumes.rclone import Look, Remote, mount_remote

#: Seconds in which it hears of files that were closed; and between two looks.
_CLOSE_SECONDS, _LOOK_AGAIN = 10.0, 0.02
#: Otherwise it notes that some seconds later.
_AT_ONCE = {"RCLONE_VFS_HANDLE_CACHING": "0s"}


def mount_cached(request: MountRequest, remote: Remote, look: Look) -> Mounted:
    """As mount_remote; with a cache where the volume's ``cache`` asks for one. Raises VolumeError."""
    wanted = request.source.settings.get("cache")
    if not wanted:
        return mount_remote(request, remote, look)
    parent = Path(request.shared) / "reads"
    try:
        folder = parent / name_for(request)
        remove_unused(parent)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = take(folder, alone=True)
    except OSError as error:
        raise request.error(f"its cache {parent} cannot be used: {error.strerror}") from error
    if lock is None:
        request.log(f"the cache of the {request.source.title} is in use on this node; it is read without one")
        return mount_remote(request, remote, replace(look, read_only=True))
    options = (
        *look.options,
        f"--vfs-cache-max-size={max(1, int(wanted['maxSizeInGB'] * 1024))}Mi",
        f"--vfs-cache-max-age={KEPT_SECONDS:.0f}s",
        "--vfs-cache-poll-interval=5s",
        # Sizes and checksums where those come with the listing, else sizes and times.
        "--vfs-fast-fingerprint",
        "--dir-cache-time=30s",
    )
    try:
        mounted = mount_remote(
            replace(request, cache=str(folder)),
            remote,
            replace(look, read_only=True, options=options, variables=_AT_ONCE),
        )
    except BaseException:
        os.close(lock)
        raise
    return _CachedMount(mounted, lock)


class _CachedMount:
    read_only = True
    service_owned = False

    def __init__(self, mounted: Mounted, lock: int) -> None:
        self._mounted = mounted
        self._lock = lock
        self.directory = mounted.directory

    def flush(self, seconds: float) -> None:
        """Wait until rclone knows that all files are closed: only then it notes what it has of them."""
        until = time.monotonic() + min(seconds, _CLOSE_SECONDS)
        while requests_waiting(self.directory) and time.monotonic() < until:
            time.sleep(_LOOK_AGAIN)

    def unmount(self) -> None:
        """Raises VolumeError."""
        try:
            self._mounted.unmount()
        finally:
            os.close(self._lock)
