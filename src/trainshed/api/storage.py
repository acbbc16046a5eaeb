"""Embedded storage accounts: as much of Microsoft.Storage as the clients of Batch AI use around it.

An account is a directory of the service (``volumes.embedded``). Its keys are random, sealed, and shown by listKeys
only.
"""

from __future__ import annotations

import asyncio
import base64
import secrets as randomness
import uuid

import structlog
from sqlalchemy import Connection
from starlette.responses import Response

from trainshed.api import groups
from trainshed.api.answers import JSON, answer
from trainshed.api.authorization import visible
from trainshed.api.call import Call
from trainshed.api.errors import GATEWAY, ApiError
from trainshed.api.lookup import find
from trainshed.api.paging import page, page_request
from trainshed.identity import Scope
from trainshed.resources import names, parsing
from trainshed.resources.arm_views import Json, storage_account_view
from trainshed.resources.ids import resource_group_key
from trainshed.resources.names import normal_location
from trainshed.resources.storage_account import KEY_NAMES
from trainshed.store import removals, secrets, storage_accounts
from trainshed.store.records import StorageAccountRecord
from trainshed.volumes.embedded import EmbeddedStorage, account_path

log = structlog.get_logger(__name__)

_KEY_BYTES = 64
_TYPE = "Microsoft.Storage/storageAccounts"


async def create(call: Call) -> Response:
    """PUT: 200 at once. Again replaces kind, SKU and tags; the keys and what is stored stay."""
    name, group_key = _name(call), resource_group_key(call.subscription, call.group)
    body = parsing.parse_storage_account(await call.body())
    kind, sku, tags = body.kind, body.sku.name, dict(body.tags or {})
    vault, now, uid = call.services.vault, call.now(), str(uuid.uuid4())
    sealed = {_key_path(key_name): vault.seal_text(_new_key(), uid) for key_name in KEY_NAMES}

    def store(tx: Connection) -> StorageAccountRecord:
        group = groups.opened(tx, group_key, call.group)
        existing = find(storage_accounts.get, tx, name)
        if existing is not None:
            if existing.group_key != group_key:
                raise _taken(name)
            _check_location(existing, body.location)
            if (existing.kind, existing.sku, existing.tags) == (kind, sku, tags):
                return existing
            return storage_accounts.update_facts(tx, name, kind=kind, sku=sku, tags=tags, now=now)
        if _is_leaving(tx, name):
            raise _taken(name)
        made = StorageAccountRecord(
            name, uid, group_key, group.subscription, group.name, body.location, kind, sku, tags, now, now
        )
        storage_accounts.insert(tx, made)
        secrets.put(tx, uid, sealed)
        return made

    record = await call.write(store)
    try:
        await asyncio.to_thread(EmbeddedStorage(call.services.home).make_account, name)
    except OSError as error:
        # The account is there; its directories come with the first share.
        log.warning("cannot make a storage account's directory", account=name, error=str(error))
    return answer(view(call, record))


async def get(call: Call) -> Response:
    """GET one."""
    return answer(view(call, await call.read(lambda tx: _required(tx, call))))


async def list_in_group(call: Call) -> Response:
    """GET those of a resource group, in order of their names."""
    return await _list(call, call.group)


async def list_in_subscription(call: Call) -> Response:
    """GET those of a subscription, in order of their names."""
    return await _list(call, None)


async def delete(call: Call) -> Response:
    """DELETE: 200 at once, with everything that is stored in it; 204 when there was none."""
    name, group_key = _name(call), resource_group_key(call.subscription, call.group)

    def forget(tx: Connection) -> StorageAccountRecord | None:
        record = find(storage_accounts.get, tx, name)
        if record is None or record.group_key != group_key:
            return None
        storage_accounts.delete(tx, name)
        removals.request(tx, record.uid, account_path(name))
        return record

    record = await call.write(forget)
    if record is None:
        return Response(status_code=204)
    # The controller removes the directory, after a crash too; moving it aside here frees the name before the answer.
    storage, uid = EmbeddedStorage(call.services.home), record.uid
    aside = await asyncio.to_thread(storage.move_aside, account_path(name), uid)
    await call.write(lambda tx: removals.moved(tx, uid, aside))
    return Response(status_code=200)


async def list_keys(call: Call) -> Response:
    """POST: the two keys, in clear. The only answer that has them."""

    def query(tx: Connection) -> tuple[str, dict[str, bytes]]:
        record = _required(tx, call)
        return record.uid, secrets.get(tx, record.uid)

    uid, sealed = await call.read(query)
    return answer({"keys": _key_views(call, uid, sealed)})


async def regenerate_key(call: Call) -> Response:
    """POST: a new key in place of the one that is named; whoever uses the old one is shut out."""
    wanted = parsing.parse_regenerate_key(await call.body()).key_name
    fresh, vault = _new_key(), call.services.vault

    def store(tx: Connection) -> tuple[str, dict[str, bytes]]:
        record = _required(tx, call)
        sealed = secrets.get(tx, record.uid) | {_key_path(wanted): vault.seal_text(fresh, record.uid)}
        secrets.put(tx, record.uid, sealed)
        return record.uid, sealed

    uid, sealed = await call.write(store)
    return answer({"keys": _key_views(call, uid, sealed)})


async def check_name(call: Call) -> Response:
    """POST: whether a new account may have this name."""
    names.check_subscription(call.part("subscription"))
    asked = parsing.parse_check_name(await call.body())
    if asked.type.lower() != _TYPE.lower():
        raise ApiError(400, "InvalidPropertyValue", f"The type '{asked.type[:100]}' is not {_TYPE}.", target="type")
    if not names.is_storage_account(asked.name):
        rule = f"{asked.name[:100]} is not a valid storage account name. A name has {names.STORAGE_ACCOUNT_RULE}."
        return answer({"nameAvailable": False, "reason": "AccountNameInvalid", "message": rule})

    def query(tx: Connection) -> bool:
        return find(storage_accounts.get, tx, asked.name) is not None or _is_leaving(tx, asked.name)

    if await call.read(query):
        message = f"The storage account named {asked.name} is already taken."
        return answer({"nameAvailable": False, "reason": "AlreadyExists", "message": message})
    return answer({"nameAvailable": True})


def view(call: Call, record: StorageAccountRecord) -> Json:
    """The account's JSON. Its endpoints are names that never leave this machine, so that no key can either."""
    scheme, _, place = call.base_url.partition("://")
    _, colon, port = place.rpartition(":")
    suffix = f":{port}" if colon and port.isdigit() else ""
    return storage_account_view(
        subscription=record.subscription,
        resource_group=record.resource_group,
        name=record.name,
        location=record.location,
        kind=record.kind,
        sku=record.sku,
        tags=record.tags,
        created_at=record.created_at,
        endpoints={kind: f"{scheme}://{record.name}.{kind}.localhost{suffix}/" for kind in ("blob", "file")},
    )


async def _list(call: Call, group: str | None) -> Response:
    subscription = call.subscription
    asked = page_request(call)

    def query(tx: Connection) -> bytes:
        if group is not None:
            groups.required(tx, resource_group_key(subscription, group), group)
        rows = visible(
            lambda after: storage_accounts.page(
                tx, subscription=subscription, resource_group=group, after=after, limit=asked.one_more
            ),
            lambda record: record.name,
            lambda record: call.caller.may(f"{_TYPE}/read", Scope(record.subscription, record.resource_group).key),
            asked.after,
            asked.one_more,
        )
        return page(call, asked, rows, lambda record: view(call, record), lambda record: record.name)

    return Response(await call.read(query), media_type=JSON)


def _required(tx: Connection, call: Call) -> StorageAccountRecord:
    group_key = resource_group_key(call.subscription, call.group)
    record = find(storage_accounts.get, tx, _name(call))
    if record is None or record.group_key != group_key:
        groups.required(tx, group_key, call.group)
        raise ApiError(
            404,
            "ResourceNotFound",
            f"The Resource '{_TYPE}/{call.part('account')}' under resource group '{call.group}' was not found.",
            headers=GATEWAY,
        )
    return record


def _name(call: Call) -> str:
    name = call.part("account")
    if call.request.method == "PUT":
        names.check_storage_account(name)
    else:
        names.check_storage_account(name.lower())
    return name.lower()


def _check_location(record: StorageAccountRecord, location: str) -> None:
    if normal_location(record.location) != normal_location(location):
        raise ApiError(
            409,
            "InvalidResourceLocation",
            f"The resource '{record.name}' already exists in location '{record.location}' in resource group "
            f"'{record.resource_group}'. A resource with the same name cannot be created in location '{location}'. "
            "Please select a new resource name.",
            target="location",
        )


def _is_leaving(tx: Connection, name: str) -> bool:
    return account_path(name) in removals.pending(tx).values()


def _taken(name: str) -> ApiError:
    return ApiError(
        409,
        "StorageAccountAlreadyTaken",
        f"The storage account named {name} is already taken. Names are unique in the whole service: choose another.",
        target="accountName",
    )


def _new_key() -> str:
    return base64.b64encode(randomness.token_bytes(_KEY_BYTES)).decode("ascii")


def _key_path(key_name: str) -> str:
    return f"/keys/{key_name}"


def _key_views(call: Call, uid: str, sealed: dict[str, bytes]) -> list[Json]:
    vault = call.services.vault
    return [
        {"keyName": name, "value": vault.unseal_text(sealed[_key_path(name)], uid), "permissions": "FULL"}
        for name in KEY_NAMES
    ]
