"""Shares and containers of embedded storage accounts are made when a cluster or a job first names them.

Only for who holds one of the account's keys: another's account stays as it is, and the mount fails later on.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import Connection

from trainshed.api.call import Call
from trainshed.api.errors import invalid_value
from trainshed.api.lookup import find
from trainshed.control.volumes import key_paths
from trainshed.identity import Vault
from trainshed.resources.names import CONTAINER_RULE, is_container
from trainshed.resources.volume_sources import share_of
from trainshed.store import secrets, storage_accounts
from trainshed.volumes.embedded import EmbeddedStorage

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """A share (``files``) or a container (``blobs``) of an embedded account."""

    account: str
    kind: str
    name: str


def places_of(
    tx: Connection, vault: Vault, volumes: Mapping[str, Any] | None, values: Mapping[str, str], pointer: str
) -> tuple[Place, ...]:
    """The places on embedded accounts that ``mountVolumes`` at the JSON ``pointer`` names, with a key that fits.

    ``values`` are the description's secrets by pointer. Raises ApiError 400 for a name that no share or container of
    an embedded account can have.
    """
    found = []
    for place, key, target in _named(volumes or {}, values, pointer):
        account = find(storage_accounts.get, tx, place.account)
        if account is None:
            continue
        if not is_container(place.name):
            raise invalid_value(
                target,
                f"'{place.name[:100]}' cannot be a share or container of the embedded storage account "
                f"'{account.name}'. A name has {CONTAINER_RULE}.",
            )
        sealed = secrets.get(tx, account.uid)
        keys = [vault.unseal_text(sealed[path], account.uid) for path in key_paths() if path in sealed]
        if key is not None and any(_same(key, known) for known in keys):
            found.append(place)
    return tuple(found)


async def make(call: Call, places: tuple[Place, ...]) -> None:
    """Make the directories, after the commit. What cannot be made now, the mount will tell."""
    if not places:
        return
    storage = EmbeddedStorage(call.services.home)

    def work() -> None:
        for place in places:
            make_one = storage.make_share if place.kind == "files" else storage.make_container
            make_one(place.account, place.name)

    try:
        await asyncio.to_thread(work)
    except OSError as error:
        log.warning("cannot make shares", error=str(error), accounts=sorted({place.account for place in places}))


def _same(key: str, known: str) -> bool:
    return hmac.compare_digest(key.encode("utf-8", "surrogatepass"), known.encode())


def _named(
    volumes: Mapping[str, Any], values: Mapping[str, str], pointer: str
) -> Iterator[tuple[Place, str | None, str]]:
    path = "properties" + pointer.replace("/", ".")
    for index, share in enumerate(volumes.get("azureFileShares") or ()):
        name = share_of(share["azureFileUrl"])
        key = values.get(f"{pointer}/azureFileShares/{index}/credentials/accountKey")
        yield Place(share["accountName"].lower(), "files", name), key, f"{path}.azureFileShares[{index}].azureFileUrl"
    for index, container in enumerate(volumes.get("azureBlobFileSystems") or ()):
        key = values.get(f"{pointer}/azureBlobFileSystems/{index}/credentials/accountKey")
        place = Place(container["accountName"].lower(), "blobs", container["containerName"])
        yield place, key, f"{path}.azureBlobFileSystems[{index}].containerName"
