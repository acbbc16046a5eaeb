"""One file a kind of file system: mount it, list it, read it, link to it."""

from trainshed.volumes.catalogue import managed, safe_path, shows_late, unmanaged
from trainshed.volumes.catalogue import mount as mount_managed
from trainshed.volumes.protocol import (
    FLUSH_SECONDS,
    MOUNT_SECONDS,
    CommandResult,
    Mounted,
    MountPoint,
    MountRequest,
    Run,
    Volume,
    VolumeError,
)

__all__ = [
    "FLUSH_SECONDS",
    "MOUNT_SECONDS",
    "CommandResult",
    "MountPoint",
    "MountRequest",
    "Mounted",
    "Run",
    "Volume",
    "VolumeError",
    "managed",
    "mount_managed",
    "safe_path",
    "shows_late",
    "unmanaged",
]
