"""The volumes of a job or a cluster one by one, as they travel to where they are mounted and read.

``mountVolumes`` of the contract says what is wanted, by kind; a *source* is one entry of it, with what the service
knows beside it. It never holds a credential: it says where, among the opened secrets, its credentials are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import unquote, urlsplit


class VolumeKind(StrEnum):
    """Members of mountVolumes, in the order in which volumes are mounted."""

    AZURE_FILE_SHARES = "azureFileShares"
    AZURE_BLOB_FILE_SYSTEMS = "azureBlobFileSystems"
    FILE_SERVERS = "fileServers"
    S3_BUCKETS = "s3Buckets"
    SFTP_DIRECTORIES = "sftpDirectories"
    HOST_DIRECTORIES = "hostDirectories"
    GIT_REPOSITORIES = "gitRepositories"
    UNMANAGED_FILE_SYSTEMS = "unmanagedFileSystems"


@dataclass(frozen=True, slots=True)
class VolumeSource:
    """One volume."""

    kind: str
    #: Where it appears, relative to the mount root.
    relative_path: str
    #: What it is, for people and logs.
    title: str
    #: Its entry in mountVolumes, without secrets' values.
    settings: Mapping[str, Any]
    #: Its credentials are the opened secrets whose JSON pointers begin with this.
    credentials: str
    #: Where it lies on the service's machine, when the service owns it: a share or container of an embedded account,
    #: the disks of a file server that nothing serves. Else empty.
    directory: str = ""
    #: Why it cannot be mounted, when the service knows that before anything is tried. Else empty.
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        """For the wire."""
        return {
            "kind": self.kind,
            "relative_path": self.relative_path,
            "title": self.title,
            "settings": dict(self.settings),
            "credentials": self.credentials,
            "directory": self.directory,
            "problem": self.problem,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> VolumeSource:
        """Read what ``to_json`` gave."""
        return cls(**data)

    def secret(self, name: str, opened: Mapping[str, str]) -> str | None:
        """The value of one of its credentials, such as ``accountKey``; None when it was not given."""
        return opened.get(f"{self.credentials}/{name}")


def volume_sources(mount_volumes: Mapping[str, Any] | None, pointer: str) -> list[VolumeSource]:
    """The volumes of ``mountVolumes`` (contract JSON) in the contract's order.

    ``pointer`` is where it lies in its description: ``/mountVolumes`` of a job, ``/nodeSetup/mountVolumes``.
    """
    return list(_sources(mount_volumes or {}, pointer))


def share_of(url: str) -> str:
    """The share that an azureFileUrl names: ``data`` of ``https://account.file.core.windows.net/data/``."""
    return urlsplit(url).path.strip("/").partition("/")[0]


def path_in_share(url: str) -> tuple[str, ...]:
    """The directories below the share that an azureFileUrl names, none for the share itself."""
    parts = unquote(urlsplit(url).path).strip("/").split("/")[1:]
    return tuple(part for part in parts if part not in ("", "."))


def _sources(mount_volumes: Mapping[str, Any], pointer: str) -> Iterator[VolumeSource]:
    for kind in VolumeKind:
        for index, entry in enumerate(mount_volumes.get(kind) or ()):
            yield VolumeSource(
                kind=kind,
                relative_path=entry.get("relativeMountPath") or "",
                title=_TITLES[kind](entry),
                settings=entry,
                credentials=f"{pointer}/{kind}/{index}/credentials",
            )


#: What to call a volume of each kind. A mount command may hold a password, so only its first word is said.
_TITLES = {
    VolumeKind.AZURE_FILE_SHARES: lambda entry: (
        f"Azure Files share {entry['accountName']}/{share_of(entry['azureFileUrl'])}"
    ),
    VolumeKind.AZURE_BLOB_FILE_SYSTEMS: lambda entry: (
        f"Azure Blob container {entry['accountName']}/{entry['containerName']}"
    ),
    VolumeKind.FILE_SERVERS: lambda entry: f"file server {entry['fileServer']['id'].rpartition('/')[2]}",
    VolumeKind.S3_BUCKETS: lambda entry: f"S3 bucket {entry['bucket']}/{entry.get('prefix') or ''}".rstrip("/"),
    VolumeKind.SFTP_DIRECTORIES: lambda entry: f"SFTP directory {entry['host']}:{entry['path']}",
    VolumeKind.HOST_DIRECTORIES: lambda entry: f"host directory {entry['path']}",
    VolumeKind.GIT_REPOSITORIES: lambda entry: f"git repository {entry['repositoryUrl']}",
    VolumeKind.UNMANAGED_FILE_SYSTEMS: lambda entry: (
        f"unmanaged file system by {(entry['mountCommand'].split(maxsplit=1) or ['(no command)'])[0]}"
    ),
}
