"""From ``mountVolumes`` of the contract to drivers, in the contract's order."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping

from trainshed.resources.reasons import ReasonCode
from trainshed.resources.volume_sources import VolumeKind, VolumeSource
from trainshed.volumes import cifs
from trainshed.volumes.azure_blobs import mount_blobs
from trainshed.volumes.azure_files import mount_files
from trainshed.volumes.file_server import mount_file_server
from trainshed.volumes.git import mount_repository
from trainshed.volumes.host_directories import how_to_allow, mount_host_directory
from trainshed.volumes.protocol import Driver, Mounted, MountPoint, MountRequest, Volume, VolumeError
from trainshed.volumes.s3 import mount_bucket
from trainshed.volumes.sftp import mount_sftp
from trainshed.volumes.unmanaged import UnmanagedVolume

#: Drivers of the kinds that the service mounts itself.
_DRIVERS: Mapping[str, Driver] = {
    VolumeKind.AZURE_FILE_SHARES: mount_files,
    VolumeKind.AZURE_BLOB_FILE_SYSTEMS: mount_blobs,
    VolumeKind.S3_BUCKETS: mount_bucket,
    VolumeKind.SFTP_DIRECTORIES: mount_sftp,
    VolumeKind.HOST_DIRECTORIES: mount_host_directory,
    VolumeKind.GIT_REPOSITORIES: mount_repository,
    VolumeKind.FILE_SERVERS: mount_file_server,
}

#: Kinds that hold whole files rather than what programs write.
_OBJECTS = frozenset((VolumeKind.AZURE_FILE_SHARES, VolumeKind.AZURE_BLOB_FILE_SYSTEMS))


def managed(sources: Iterable[VolumeSource]) -> list[VolumeSource]:
    """Those that the service mounts itself."""
    return [source for source in sources if source.kind != VolumeKind.UNMANAGED_FILE_SYSTEMS]


def shows_late(source: VolumeSource) -> bool:
    """Whether others see a file on this managed volume only when it was closed, and not while it grows."""
    if source.directory or source.kind not in _OBJECTS:
        return False
    return source.kind != VolumeKind.AZURE_FILE_SHARES or not cifs.kernel_has_it()


def mount(request: MountRequest) -> Mounted:
    """Mount a managed volume. Raises VolumeError."""
    safe_path(request.source)
    if request.source.problem:
        hint = how_to_allow(request.source.settings["path"]) if _is_of_host(request.source) else ""
        raise request.error(request.source.problem, hint=hint)
    driver = _DRIVERS.get(request.source.kind)
    if driver is None:
        hint = "Mount it with a mountCommand (unmanagedFileSystems) instead."
        raise request.error("this version cannot mount volumes of its kind", hint=hint)
    return driver(request)


def _is_of_host(source: VolumeSource) -> bool:
    return source.kind == VolumeKind.HOST_DIRECTORIES


def unmanaged(sources: Iterable[VolumeSource], root: str) -> list[Volume]:
    """The volumes below ``root`` that the user's own commands mount. Raises VolumeError for a path outside root."""
    return [
        UnmanagedVolume(MountPoint(root, safe_path(source)), source.settings["mountCommand"])
        for source in sources
        if source.kind == VolumeKind.UNMANAGED_FILE_SYSTEMS
    ]


def safe_path(source: VolumeSource) -> str:
    """Its normal path below the mount root. Raises VolumeError when it leads elsewhere."""
    relative = source.relative_path
    normal = posixpath.normpath(relative)
    if not relative or relative.startswith("/") or normal in (".", "..") or normal.startswith("../"):
        raise VolumeError(
            ReasonCode.VOLUME_MOUNT_FAILED,
            f"mountVolumes.{source.kind}: relativeMountPath {relative!r} is not a path below the mount root. "
            "Give a relative path without '..', for example 'data'.",
            {"relativeMountPath": relative},
        )
    return normal
