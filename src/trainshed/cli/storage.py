"""The storage options of ``cluster create`` and ``job create``: shares, containers and file servers to mount."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import click

from trainshed.cli.session import Session

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Storage:
    """What the options said. The account and its key fall back on AZURE_BATCHAI_STORAGE_ACCOUNT and _KEY."""

    storage_account_name: str | None = None
    storage_account_key: str | None = None
    nfs: str | None = None
    nfs_mount_path: str = "nfs"
    afs_name: str | None = None
    afs_mount_path: str = "afs"
    bfs_name: str | None = None
    bfs_mount_path: str = "bfs"

    @property
    def account(self) -> str | None:
        return self.storage_account_name or os.environ.get("AZURE_BATCHAI_STORAGE_ACCOUNT") or None

    @property
    def key(self) -> str | None:
        return self.storage_account_key or os.environ.get("AZURE_BATCHAI_STORAGE_KEY") or None

    def add_to(self, volumes: dict[str, Any], session: Session) -> dict[str, Any]:
        """mountVolumes with what the options name, and with the key where credentials are missing."""
        made = {kind: [dict(volume) for volume in entries or ()] for kind, entries in volumes.items()}
        if self.afs_name or self.bfs_name:
            account = self._required_account()
            if self.afs_name:
                share = {
                    "accountName": account,
                    "azureFileUrl": f"https://{account}.file.core.windows.net/{self.afs_name}",
                    "relativeMountPath": self.afs_mount_path,
                }
                made.setdefault("azureFileShares", []).append(share)
            if self.bfs_name:
                container = {
                    "accountName": account,
                    "containerName": self.bfs_name,
                    "relativeMountPath": self.bfs_mount_path,
                }
                made.setdefault("azureBlobFileSystems", []).append(container)
        if self.nfs:
            server = (
                self.nfs if self.nfs.startswith("/") else f"{session.scope.workspace_path()}/fileservers/{self.nfs}"
            )
            made.setdefault("fileServers", []).append(
                {"fileServer": {"id": server}, "relativeMountPath": self.nfs_mount_path}
            )
        found: dict[str, str | None] = {}
        for kind in ("azureFileShares", "azureBlobFileSystems"):
            for volume in made.get(kind, ()):
                if volume.get("credentials"):
                    continue
                named = volume.get("accountName")
                if self.key and named in (self.account, None):
                    volume["credentials"] = {"accountKey": self.key}
                elif named:
                    if named not in found:
                        found[named] = _key_of(session, named)
                    if found[named]:
                        volume["credentials"] = {"accountKey": found[named]}
        return made

    def _required_account(self) -> str:
        if not self.account:
            raise click.UsageError(
                "which storage account? give --storage-account-name, or set AZURE_BATCHAI_STORAGE_ACCOUNT"
            )
        return self.account


def _key_of(session: Session, account: str) -> str | None:
    """The first key of a storage account of this service, as ``az batchai`` looks it up; None for other accounts."""
    from trainshed.client.errors import ServiceError

    try:
        for found in session.client.storage_accounts.list(everywhere=True):
            if found.name == account.lower():
                there = session.client.at(resource_group=found.resource_group)
                return str(there.storage_accounts.keys(found.name)[0].get("value"))
    except ServiceError:
        return None
    return None


def storage_options(function: F) -> F:
    """Add the options; the command gets them as ``storage``."""
    import functools

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        given = {field.name: kwargs.pop(field.name) for field in fields(Storage)}
        return function(*args, storage=Storage(**given), **kwargs)

    wrapped: Any = call
    for flag, text, default in (
        ("--bfs-mount-path", "Where the container appears below the mount root.", "bfs"),
        ("--bfs-name", "Azure Blob container to mount.", None),
        ("--afs-mount-path", "Where the share appears below the mount root.", "afs"),
        ("--afs-name", "Azure file share to mount.", None),
        ("--nfs-mount-path", "Where the file server appears below the mount root.", "nfs"),
        ("--nfs", "File server to mount: its name or ARM id.", None),
        ("--storage-account-key", "Key of the storage account.", None),
        ("--storage-account-name", "Storage account of shares and containers.", None),
    ):
        wrapped = click.option(flag, metavar="TEXT", default=default, show_default=default is not None, help=text)(
            wrapped
        )
    return wrapped  # type: ignore[no-any-return]
