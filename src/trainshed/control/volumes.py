"""What the service adds to the description of a volume: where it lies on this machine when the service owns it.

A share or container of an embedded account is there for who holds one of the account's keys. The keys are sealed, so
that is found out only when the secrets are opened (``admitted``).
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from trainshed.resources.errors import InvalidResource
from trainshed.resources.host_directories import FILE_NAME, AllowedDirectory
from trainshed.resources.ids import ResourceId
from trainshed.resources.lifecycle import ProvisioningState
from trainshed.resources.names import is_container
from trainshed.resources.storage_account import KEY_NAMES
from trainshed.resources.storage_endpoints import StorageEndpoints
from trainshed.resources.volume_sources import VolumeKind, VolumeSource, share_of, volume_sources
from trainshed.store import file_servers, secrets, storage_accounts
from trainshed.store.errors import or_none
from trainshed.volumes.embedded import account_path, file_server_path

_AS_AZURE = StorageEndpoints()


@dataclass(frozen=True, slots=True)
class AccountLock:
    """The sealed keys of an embedded account, and the uid that they were sealed with."""

    account_uid: str
    sealed: tuple[bytes, ...]


def key_paths() -> tuple[str, ...]:
    """Where the keys lie among the secrets of an embedded account."""
    return tuple(f"/keys/{name}" for name in KEY_NAMES)


def resolved(
    tx: Connection,
    mount_volumes: Mapping[str, Any] | None,
    pointer: str,
    home: Path | None,
    endpoints: StorageEndpoints = _AS_AZURE,
    allowed: Sequence[AllowedDirectory] = (),
) -> tuple[tuple[VolumeSource, ...], dict[str, AccountLock]]:
    """The volumes with what is known of them, and the locks of embedded accounts by the volume's ``credentials``."""
    if not mount_volumes or home is None:
        return tuple(volume_sources(mount_volumes, pointer)), {}
    sources: list[VolumeSource] = []
    locks: dict[str, AccountLock] = {}
    for source in volume_sources(mount_volumes, pointer):
        if source.kind == VolumeKind.FILE_SERVERS:
            source = _file_server(tx, source, home)
        elif source.kind in (VolumeKind.AZURE_FILE_SHARES, VolumeKind.AZURE_BLOB_FILE_SYSTEMS):
            source, lock = _embedded(tx, source, home)
            if lock is not None:
                locks[source.credentials] = lock
            source = _at_endpoint(source, endpoints)
        elif source.kind == VolumeKind.HOST_DIRECTORIES:
            source = _host_directory(source, allowed)
        sources.append(source)
    return tuple(sources), locks


def admitted(
    sources: Iterable[VolumeSource], opened: Mapping[str, str], keys: Mapping[str, Iterable[str]]
) -> tuple[VolumeSource, ...]:
    """The volumes, those of embedded accounts refused where the key given is none of the account's.

    ``keys`` are the opened keys by the volume's ``credentials``.
    """
    return tuple(
        _admitted(source, source.secret("accountKey", opened), keys[source.credentials])
        if source.credentials in keys
        else source
        for source in sources
    )


def _admitted(source: VolumeSource, given: str | None, keys: Iterable[str]) -> VolumeSource:
    if given is not None and any(hmac.compare_digest(_bytes(given), _bytes(key)) for key in keys):
        return source
    problem = (
        "the key that the description gives is none of the account's keys. "
        "`trainshed storage keys` shows them to whoever may see them"
    )
    return replace(source, directory="", problem=problem)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _embedded(tx: Connection, source: VolumeSource, home: Path) -> tuple[VolumeSource, AccountLock | None]:
    """With its directory when the account is one of the service's own."""
    account = or_none(storage_accounts.get, tx, source.settings["accountName"].lower())
    if account is None:
        return source, None
    if source.kind == VolumeKind.AZURE_FILE_SHARES:
        kind, name = "files", share_of(source.settings["azureFileUrl"])
    else:
        kind, name = "blobs", source.settings["containerName"]
    if not is_container(name):
        return replace(source, problem=f"an embedded account can have no share or container '{name}'"), None
    sealed = secrets.get(tx, account.uid)
    lock = AccountLock(account.uid, tuple(sealed[path] for path in key_paths() if path in sealed))
    return replace(source, directory=str(home / account_path(account.name) / kind / name)), lock


def _at_endpoint(source: VolumeSource, endpoints: StorageEndpoints) -> VolumeSource:
    """With ``endpoint`` among its settings when the administrator says where the account is."""
    account = source.settings["accountName"]
    of = endpoints.file if source.kind == VolumeKind.AZURE_FILE_SHARES else endpoints.blob
    endpoint = "" if source.directory or source.problem else of(account)
    return replace(source, settings={**source.settings, "endpoint": endpoint}) if endpoint else source


def _host_directory(source: VolumeSource, allowed: Sequence[AllowedDirectory]) -> VolumeSource:
    """With ``allowed`` among its settings. Where links lead to is known on the node only, so that is asked there."""
    if not allowed:
        return replace(source, problem=f"directories of the machine may be mounted only where {FILE_NAME} says so")
    return replace(source, settings={**source.settings, "allowed": [entry.to_json() for entry in allowed]})


def _file_server(tx: Connection, source: VolumeSource, home: Path) -> VolumeSource:
    """With its address, or the directory of its disks where nothing serves them."""
    given = source.settings["fileServer"]["id"]
    try:
        server = or_none(file_servers.get, tx, ResourceId.parse(given).key)
    except InvalidResource:
        server = None
    if server is None:
        return replace(source, problem=f"the file server '{given}' does not exist any more")
    if server.state is not ProvisioningState.SUCCEEDED or server.mount_settings is None:
        return replace(source, problem=f"the file server is {server.state.value}")
    settings = {**source.settings, "mountSettings": server.mount_settings, "uid": server.uid}
    # What NFS serves may lie on disks that only the file server itself sees.
    directory = "" if "nfsPort" in server.mount_settings else str(home / file_server_path(server.uid))
    return replace(source, settings=settings, directory=directory)
