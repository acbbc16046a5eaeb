"""Shares and containers of embedded accounts as requests name them, and paths in them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainshed.api import groups
from trainshed.api.batches import check_size
from trainshed.api.call import Call
from trainshed.api.errors import GATEWAY, ApiError, invalid_value
from trainshed.api.lookup import find
from trainshed.api.sha256 import check_sha256
from trainshed.resources.ids import resource_group_key
from trainshed.resources.names import CONTAINER_RULE, check_storage_account, is_container
from trainshed.store import storage_accounts
from trainshed.volumes.embedded import EmbeddedStorage, account_path
from trainshed.volumes.share_files import Wanted

#: What an account has, as directories: ``files`` holds file shares, ``blobs`` containers.
SERVICES = ("files", "blobs")
_LONGEST_PATH, _LONGEST_NAME, _DEEPEST = 2048, 255, 100


@dataclass(frozen=True, slots=True)
class Volume:
    """A share or container of an account that is there; it may have no directory yet."""

    home: Path
    account: str
    account_uid: str
    service: str
    name: str

    @property
    def directory(self) -> Path:
        return self.home / account_path(self.account) / self.service / self.name

    @property
    def drafts(self) -> Path:
        """Where files are while they arrive: no job sees it, and it goes with the account."""
        return self.home / account_path(self.account) / ".incoming"

    def make(self) -> None:
        """Its directory, made where absent. Raises OSError."""
        storage = EmbeddedStorage(self.home)
        (storage.make_share if self.service == "files" else storage.make_container)(self.account, self.name)

    @property
    def not_found(self) -> ApiError:
        """404: nothing was ever put there."""
        kind, code = ("share", "ShareNotFound") if self.service == "files" else ("container", "ContainerNotFound")
        return ApiError(
            404,
            code,
            f"The storage account '{self.account}' has no {kind} '{self.name}'. It is made when files are sent to it, "
            "and when a cluster or job names it with one of the account's keys.",
        )


async def volume_of(call: Call) -> Volume:
    """The share or container that the path names. Raises ApiError 404 without the account, 400 for a wrong name."""
    service, name = call.part("service"), call.part("volume")
    account = call.part("account").lower()
    check_storage_account(account)
    if service not in SERVICES:
        raise invalid_value(
            "service", f"An account has no '{service[:100]}'. Give 'files' for a share or 'blobs' for a container."
        )
    if not is_container(name):
        raise invalid_value(
            "volume",
            f"'{name[:100]}' cannot be a share or container of the storage account '{account}'. A name has "
            f"{CONTAINER_RULE}.",
        )
    group_key = resource_group_key(call.subscription, call.group)
    record = await call.read(lambda tx: find(storage_accounts.get, tx, account))
    if record is None or record.group_key != group_key:
        await call.read(lambda tx: groups.required(tx, group_key, call.group))
        raise ApiError(
            404,
            "ResourceNotFound",
            f"The Resource 'Microsoft.Storage/storageAccounts/{account}' under resource group '{call.group}' was not "
            "found. Files can be sent to accounts of this service only (trainshed storage create). Of an account in "
            "Azure the service knows no key but inside the description of a job or cluster that mounts it: send files "
            "there with azcopy or 'az storage file upload-batch', or let a job that mounts it copy them.",
            headers=GATEWAY,
        )
    return Volume(call.services.home, account, record.uid, service, name)


def check_path(path: object, target: str) -> str:
    """A file's path in a share: plain, relative, UTF-8. Raises ApiError 400."""
    if not isinstance(path, str) or not path:
        raise invalid_value(target, "The path of a file is required, as text: 'images/0001.png'.")
    parts = path.split("/")
    shown = path[:200]
    if any(part in ("", ".", "..") for part in parts):
        raise invalid_value(
            target,
            f"The path {shown!r} is not allowed. Give a path relative to the share, such as 'images/0001.png', "
            "without '.', '..' and empty parts.",
        )
    if any(ord(char) < 0x20 or ord(char) == 0x7F or 0xD800 <= ord(char) < 0xE000 for char in path):
        raise invalid_value(
            target,
            f"The path {shown!r} has control characters, or is not UTF-8. Rename the file.",
        )
    if (
        len(path.encode()) > _LONGEST_PATH
        or len(parts) > _DEEPEST
        or max(len(part.encode()) for part in parts) > _LONGEST_NAME
    ):
        raise invalid_value(
            target,
            f"The path {shown!r} is too long: at most {_LONGEST_NAME} bytes a name, {_DEEPEST} names and "
            f"{_LONGEST_PATH:,} bytes in all.",
        )
    return path


def wanted_file(entry: dict[str, Any], target: str = "") -> Wanted:
    """A file as the member ``target`` of a request, or its query, describes it. Raises ApiError 400."""
    at = f"{target}." if target else ""
    executable = entry.get("executable", False)
    if not isinstance(executable, bool):
        raise invalid_value(f"{at}executable", "The member executable is true or false.")
    if unknown := sorted(entry.keys() - {"path", "sha256", "size", "executable"}):
        raise invalid_value(
            f"{at}{unknown[0][:100]}", f"A file has no member {unknown[0][:100]!r}: path, sha256, size, executable."
        )
    return Wanted(
        check_path(entry.get("path"), f"{at}path"),
        check_sha256(entry.get("sha256"), f"{at}sha256"),
        check_size(entry.get("size"), f"{at}size"),
        executable,
    )


def check_together(paths: list[str], target: str) -> None:
    """Files of one request: none twice, none a folder of another. Raises ApiError 400."""
    seen = set(paths)
    if len(seen) != len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        raise invalid_value(target, f"The path {twice[:200]!r} is there twice. Name each file once.")
    for path in paths:
        folder = path
        while folder := folder.rpartition("/")[0]:
            if folder in seen:
                raise invalid_value(target, f"The path {folder[:200]!r} is both a file and a folder of other files.")
