"""Runners that a node has fetched: they stay for the jobs that come, and go when no job has wanted them for a while."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
import uuid
from contextlib import suppress
from pathlib import Path

#: Seconds for which one that nobody starts any more stays: jobs of several services, or of one that was renewed while
#: some waited, do not each fetch it anew.
UNUSED_SECONDS = 3600.0


def drop_unused(above: Path) -> None:
    """Remove those that nobody has begun with for so long and nobody uses now, and what was only begun to be unpacked.

    ``boot`` marks the one that it starts, and holds a lock on its folder.
    """
    for place in list(above.iterdir()):
        with suppress(OSError):
            if time.time() - place.lstat().st_mtime > UNUSED_SECONDS:
                _drop(place)


def _drop(place: Path) -> None:
    """Raises OSError while somebody uses it."""
    descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever waits for the lock finds it gone as a whole.
        gone = place.with_name(f".{uuid.uuid4().hex}")
        place.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
    finally:
        os.close(descriptor)
