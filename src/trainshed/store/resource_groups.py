"""Resource groups: what Azure Resource Manager keeps workspaces and storage accounts in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, func, select, update
from sqlalchemy import insert as insert_into

from trainshed.resources.lifecycle import ProvisioningEvent, ProvisioningState
from trainshed.store._provisioning import Provisioned
from trainshed.store._statements import first, refused_as, rows_changed
from trainshed.store.encoding import from_json, to_json
from trainshed.store.errors import AlreadyExists, NotFound
from trainshed.store.events import Kind
from trainshed.store.records import ResourceGroupRecord
from trainshed.store.tables import DELETING
from trainshed.store.tables import resource_groups as table

_provisioned = Provisioned(table, Kind.RESOURCE_GROUP)

_insert = insert_into(table).inline()
_get = select(table).where(table.c.key == bindparam("of"))
_page = (
    select(table)
    .where(table.c.key > bindparam("start"), table.c.key < bindparam("end"))
    .order_by(table.c.key)
    .limit(bindparam("limit"))
)
_deleting = select(table).where(DELETING).order_by(table.c.key)
_set_tags = update(table).where(table.c.key == bindparam("of")).values(tags=bindparam("t"), modified_at=bindparam("m"))
_subscriptions = select(func.min(table.c.subscription)).group_by(func.lower(table.c.subscription))
_locations = (
    select(func.min(table.c.location))
    .where(table.c.key > bindparam("start"), table.c.key < bindparam("end"))
    .group_by(func.lower(table.c.location))
)


def insert(tx: Connection, group: ResourceGroupRecord) -> None:
    """Store a new group. Raises AlreadyExists."""
    with refused_as(tx, lambda: AlreadyExists("resource group", group.key)):
        tx.execute(
            _insert,
            {
                "key": group.key,
                "subscription": group.subscription,
                "name": group.name,
                "location": group.location,
                "tags": to_json(group.tags),
                "state": group.state.value,
                "state_at": group.state_at,
                "created_at": group.created_at,
                "modified_at": group.modified_at,
            },
        )
    _provisioned.created(tx, group.key, group.state, group.created_at)


def get(tx: Connection, key: str) -> ResourceGroupRecord:
    """Raises NotFound."""
    row = first(tx, _get, {"of": key})
    if row is None:
        raise NotFound("resource group", key)
    return _record(row)


def page(tx: Connection, subscription: str, after: str | None, limit: int) -> list[ResourceGroupRecord]:
    """Groups of a subscription in the order of their keys, after the key ``after``."""
    start, end = _range(subscription)
    return [_record(row) for row in tx.execute(_page, {"start": max(start, after or ""), "end": end, "limit": limit})]


def subscriptions(tx: Connection) -> list[str]:
    """Ids of the subscriptions that have groups, in order; of several spellings of one, one."""
    return sorted((row[0] for row in tx.execute(_subscriptions)), key=str.lower)


def locations(tx: Connection, subscription: str) -> list[str]:
    """Where the groups of a subscription are, in order."""
    start, end = _range(subscription)
    return sorted(row[0] for row in tx.execute(_locations, {"start": start, "end": end}))


def set_tags(tx: Connection, key: str, tags: dict[str, str], now: int) -> ResourceGroupRecord:
    """Replace the tags. Raises NotFound."""
    if rows_changed(tx, _set_tags, {"of": key, "t": to_json(tags), "m": now}) == 0:
        raise NotFound("resource group", key)
    return get(tx, key)


def apply(tx: Connection, key: str, event: ProvisioningEvent, now: int) -> ResourceGroupRecord:
    """Change the provisioning state. Raises NotFound, ImpossibleTransition."""
    _provisioned.apply(tx, key, event, now)
    return get(tx, key)


def deleting(tx: Connection) -> list[ResourceGroupRecord]:
    """Groups whose deletion was asked for."""
    return [_record(row) for row in tx.execute(_deleting)]


def delete(tx: Connection, key: str) -> None:
    """Remove a group; what is in it must be gone. Raises NotFound."""
    _provisioned.delete(tx, key)


def _range(subscription: str) -> tuple[str, str]:
    return f"{subscription}/".lower(), f"{subscription}0".lower()  # "0" follows "/".


def _record(row: Sequence[Any]) -> ResourceGroupRecord:
    key, subscription, name, location, tags, state, state_at, created_at, modified_at = row
    return ResourceGroupRecord(
        key,
        subscription,
        name,
        location,
        from_json(tags),
        ProvisioningState(state),
        state_at,
        created_at,
        modified_at,
    )
