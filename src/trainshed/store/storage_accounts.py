"""Embedded storage accounts. Each is a directory of the service; its keys are sealed in ``secrets``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, bindparam, select, update
from sqlalchemy import delete as delete_from
from sqlalchemy import insert as insert_into

from trainshed.store import secrets
from trainshed.store._statements import first, refused_as, rows_changed
from trainshed.store.encoding import from_json, to_json
from trainshed.store.errors import AlreadyExists, NotFound
from trainshed.store.records import StorageAccountRecord
from trainshed.store.tables import storage_accounts as table

_insert = insert_into(table).inline()
_get = select(table).where(table.c.name == bindparam("of"))
_by_uid = select(table).where(table.c.uid == bindparam("of"))
_page = (
    select(table)
    .where(
        table.c.group_key >= bindparam("start"), table.c.group_key < bindparam("end"), table.c.name > bindparam("after")
    )
    .order_by(table.c.name)
    .limit(bindparam("limit"))
)
_of_group = select(table).where(table.c.group_key == bindparam("of")).order_by(table.c.name)
_update = (
    update(table)
    .where(table.c.name == bindparam("of"))
    .values(kind=bindparam("k"), sku=bindparam("s"), tags=bindparam("t"), modified_at=bindparam("m"))
)
_delete = delete_from(table).where(table.c.name == bindparam("of"))


def insert(tx: Connection, account: StorageAccountRecord) -> None:
    """Store a new account. Raises AlreadyExists: names are unique in the whole service."""
    with refused_as(tx, lambda: AlreadyExists("storage account", account.name)):
        tx.execute(_insert, asdict(account) | {"tags": to_json(account.tags)})


def get(tx: Connection, name: str) -> StorageAccountRecord:
    """The account of this name, in lower case. Raises NotFound."""
    row = first(tx, _get, {"of": name})
    if row is None:
        raise NotFound("storage account", name)
    return _record(row)


def get_by_uid(tx: Connection, uid: str) -> StorageAccountRecord:
    """The account with this uid. Raises NotFound."""
    row = first(tx, _by_uid, {"of": uid})
    if row is None:
        raise NotFound("storage account", uid)
    return _record(row)


def page(
    tx: Connection, *, subscription: str, resource_group: str | None = None, after: str | None = None, limit: int
) -> list[StorageAccountRecord]:
    """Accounts of a subscription or of one of its groups, in the order of their names, after the name ``after``."""
    if resource_group is None:
        start, end = f"{subscription}/".lower(), f"{subscription}0".lower()  # "0" follows "/".
    else:
        start = f"{subscription}/{resource_group}".lower()
        end = start + "\x01"  # No name holds it: the group alone.
    rows = tx.execute(_page, {"start": start, "end": end, "after": after or "", "limit": limit})
    return [_record(row) for row in rows]


def of_group(tx: Connection, group_key: str) -> list[StorageAccountRecord]:
    """All accounts of a resource group."""
    return [_record(row) for row in tx.execute(_of_group, {"of": group_key})]


def update_facts(
    tx: Connection, name: str, *, kind: str, sku: str, tags: dict[str, str], now: int
) -> StorageAccountRecord:
    """Replace what a user may change. Raises NotFound."""
    if rows_changed(tx, _update, {"of": name, "k": kind, "s": sku, "t": to_json(tags), "m": now}) == 0:
        raise NotFound("storage account", name)
    return get(tx, name)


def delete(tx: Connection, name: str) -> None:
    """Forget the account and its keys; its directory is somebody else's work (``removals``). Raises NotFound."""
    account = get(tx, name)
    secrets.delete(tx, account.uid)
    tx.execute(_delete, {"of": name})


def _record(row: Sequence[Any]) -> StorageAccountRecord:
    name, uid, group_key, subscription, resource_group, location, kind, sku, tags, created_at, modified_at = row
    return StorageAccountRecord(
        name,
        uid,
        group_key,
        subscription,
        resource_group,
        location,
        kind,
        sku,
        from_json(tags),
        created_at,
        modified_at,
    )
