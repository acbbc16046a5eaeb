"""One file a kind of file system: mount it, list it, read it, link to it."""

from trainshed.volumes.catalogue import volumes_of
from trainshed.volumes.protocol import CommandResult, MountPoint, Run, Volume, VolumeError

__all__ = ["CommandResult", "MountPoint", "Run", "Volume", "VolumeError", "volumes_of"]
