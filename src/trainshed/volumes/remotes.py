"""Volumes on other systems as the service reads them: by rclone, and by links that need no service at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Protocol
from urllib.parse import quote, urlsplit

from trainshed.resources.directories import join
from trainshed.resources.volume_sources import VolumeKind, VolumeSource
from trainshed.volumes import azure_blobs, azure_files, s3, sftp
from trainshed.volumes.blob_options import BlobOptions
from trainshed.volumes.protocol import MountRequest, VolumeError
from trainshed.volumes.rclone import Remote
from trainshed.volumes.reading import Unreadable
from trainshed.volumes.remote_reading import RcloneReader


class LinkMaker(Protocol):
    """Makes links that anybody may follow until they expire."""

    def __call__(self, inside: str, expires_at: int) -> str:
        """To the file ``inside`` the directory; ``expires_at`` in Unix ms."""
        ...


_REMOTES: Mapping[str, Callable[[MountRequest], Remote]] = {
    VolumeKind.AZURE_FILE_SHARES: azure_files.remote_of,
    VolumeKind.AZURE_BLOB_FILE_SYSTEMS: azure_blobs.remote_of,
    VolumeKind.S3_BUCKETS: s3.remote_of,
    VolumeKind.SFTP_DIRECTORIES: sftp.remote_of,
}


def open_remote(source: VolumeSource, path: str, secrets: Mapping[str, str]) -> RcloneReader:
    """What reads the directory ``path`` of the volume. Raises Unreadable."""
    make = _REMOTES.get(source.kind)
    if make is None:
        raise Unreadable(f"{source.title} can be read on nodes only")
    try:
        remote = make(_request(source, secrets))
    except VolumeError as error:
        raise Unreadable(str(error)) from error
    return RcloneReader(remote, path, source.title, list(secrets.values()))


def link_maker(source: VolumeSource, path: str, secrets: Mapping[str, str]) -> LinkMaker | None:
    """Signs links to files below ``path`` with the account's key (shared access signatures).

    None where the storage has no such links, or the SDK that makes them is not installed (``trainshed[volumes]``).
    """
    key = source.secret("accountKey", secrets)
    if not key or "sig=" in key:
        return None
    if source.kind == VolumeKind.AZURE_BLOB_FILE_SYSTEMS:
        return _blob_links(source, path, secrets)
    if source.kind == VolumeKind.AZURE_FILE_SHARES and not source.settings.get("endpoint"):
        return _file_links(source, path, key)
    return None


def _blob_links(source: VolumeSource, path: str, secrets: Mapping[str, str]) -> LinkMaker | None:
    try:
        from azure.storage.blob import BlobSasPermissions, generate_blob_sas
    except ImportError:
        return None
    container = azure_blobs.container_at(_request(source, secrets), BlobOptions())

    def link(inside: str, expires_at: int) -> str:
        name = join(path, inside).lstrip("/")
        signature = generate_blob_sas(
            container.account,
            container.name,
            name,
            account_key=container.credential,
            permission=BlobSasPermissions(read=True),
            expiry=datetime.fromtimestamp(expires_at / 1000, UTC),
        )
        return f"{container.endpoint}/{container.name}/{quote(name)}?{signature}"

    return link


def _file_links(source: VolumeSource, path: str, key: str) -> LinkMaker | None:
    try:
        from azure.storage.fileshare import FileSasPermissions, generate_file_sas
    except ImportError:
        return None
    url = urlsplit(source.settings["azureFileUrl"])
    share, _, below = url.path.strip("/").partition("/")

    def link(inside: str, expires_at: int) -> str:
        name = "/".join(part for part in (below, path, inside) if part).strip("/")
        signature = generate_file_sas(
            source.settings["accountName"],
            share,
            name.split("/"),
            account_key=key,
            permission=FileSasPermissions(read=True),
            expiry=datetime.fromtimestamp(expires_at / 1000, UTC),
        )
        return f"{url.scheme}://{url.netloc}/{share}/{quote(name)}?{signature}"

    return link


def _request(source: VolumeSource, secrets: Mapping[str, str]) -> MountRequest:
    """For reading: nothing is mounted, so there is no place for it."""
    return MountRequest(
        source=source,
        secrets=secrets,
        uid=0,
        gid=0,
        target="",
        folder="",
        cache="",
        shared="",
        node="",
        log=lambda _: None,
    )
