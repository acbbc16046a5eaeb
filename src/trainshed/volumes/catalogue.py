"""From ``mountVolumes`` of the contract to drivers, in the contract's order."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Any

from trainshed.resources.reasons import ReasonCode
from trainshed.volumes.protocol import MountPoint, Volume, VolumeError
from trainshed.volumes.unmanaged import UnmanagedVolume

#: Members of mountVolumes that this version has no driver for: what they are called, the error code (behaviour 9),
#: and the property that names one of them.
_WITHOUT_DRIVER = {
    "azureFileShares": ("Azure Files share", ReasonCode.AZURE_FILE_MOUNT_FAILED, "azureFileUrl"),
    "azureBlobFileSystems": ("Azure Blob container", ReasonCode.AZURE_BLOB_MOUNT_FAILED, "containerName"),
    "fileServers": ("file server", ReasonCode.VOLUME_MOUNT_FAILED, "fileServer"),
}


def volumes_of(mount_volumes: Mapping[str, Any] | None, root: str) -> list[Volume]:
    """The volumes to mount below ``root``. Raises VolumeError for a kind without a driver or a path outside root."""
    volumes: list[Volume] = []
    for kind, members in (mount_volumes or {}).items():
        for member in members or []:
            if kind in _WITHOUT_DRIVER:
                raise _no_driver(kind, member, root)
            point = MountPoint(root, _safe(kind, member.get("relativeMountPath") or ""))
            volumes.append(UnmanagedVolume(point, member["mountCommand"]))
    return volumes


def _no_driver(kind: str, member: Mapping[str, Any], root: str) -> VolumeError:
    noun, code, naming = _WITHOUT_DRIVER[kind]
    named = member.get(naming) or ""
    name = str(named.get("id", "")) if isinstance(named, Mapping) else str(named)
    path = f"{root}/{member.get('relativeMountPath') or ''}"
    return VolumeError(
        code,
        f"The {noun} {name} (mountVolumes.{kind}) cannot be mounted at {path}: this version mounts "
        "unmanagedFileSystems only. Mount it with a mountCommand there, or use $AZ_BATCHAI_MOUNT_ROOT, "
        "which every node of the cluster has.",
        {"volume": name, "kind": kind, "mountPath": path},
    )


def _safe(kind: str, relative: str) -> str:
    normal = posixpath.normpath(relative)
    if not relative or relative.startswith("/") or normal in (".", "..") or normal.startswith("../"):
        raise VolumeError(
            ReasonCode.VOLUME_MOUNT_FAILED,
            f"mountVolumes.{kind}: relativeMountPath {relative!r} is not a path below the mount root. "
            "Give a relative path without '..', for example 'data'.",
            {"relativeMountPath": relative},
        )
    return normal
