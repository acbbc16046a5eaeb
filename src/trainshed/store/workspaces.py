"""Workspaces: what everything else belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, func, select, update
from sqlalchemy import insert as insert_into

from trainshed.resources.lifecycle import ProvisioningEvent, ProvisioningState
from trainshed.store import meta
from trainshed.store._provisioning import Provisioned
from trainshed.store._statements import first, refused_as, rows_changed
from trainshed.store.encoding import from_json, to_json
from trainshed.store.errors import AlreadyExists, NotFound
from trainshed.store.events import Kind
from trainshed.store.records import WorkspaceRecord
from trainshed.store.tables import DELETING
from trainshed.store.tables import workspaces as table

_provisioned = Provisioned(table, Kind.WORKSPACE)
#: Fact in ``meta``: the number that the next workspace's jobs run under.
_NEXT_USER = "next-user-number"

_insert = insert_into(table).inline()
_get = select(table).where(table.c.key == bindparam("of"))
#: Keys of a subscription or of a resource group lie together: between the first and the end of their common prefix.
_between = (table.c.key > bindparam("start"), table.c.key < bindparam("end"))
_all_between = select(table).where(*_between).order_by(table.c.key)
_page = _all_between.limit(bindparam("limit"))
_count = select(func.count()).select_from(table).where(*_between)
_deleting = select(table).where(DELETING).order_by(table.c.key)
_set_scheduling = (
    update(table)
    .where(table.c.key == bindparam("of"))
    .values(scheduling=bindparam("rules", type_=table.c.scheduling.type), modified_at=bindparam("m"))
)
_set_tags = update(table).where(table.c.key == bindparam("of")).values(tags=bindparam("t"), modified_at=bindparam("m"))


def insert(tx: Connection, workspace: WorkspaceRecord) -> None:
    """Store a new workspace and give it its user number, never given before. Raises AlreadyExists."""
    number = int(meta.get(tx, _NEXT_USER) or 1)
    meta.set(tx, _NEXT_USER, str(number + 1))
    with refused_as(tx, lambda: AlreadyExists("workspace", workspace.key)):
        tx.execute(
            _insert,
            {
                "key": workspace.key,
                "subscription": workspace.subscription,
                "resource_group": workspace.resource_group,
                "name": workspace.name,
                "location": workspace.location,
                "tags": to_json(workspace.tags),
                "state": workspace.state.value,
                "state_at": workspace.state_at,
                "created_at": workspace.created_at,
                "modified_at": workspace.modified_at,
                "user_number": number,
            },
        )
    _provisioned.created(tx, workspace.key, workspace.state, workspace.created_at)


def get(tx: Connection, key: str) -> WorkspaceRecord:
    """Raises NotFound."""
    row = first(tx, _get, {"of": key})
    if row is None:
        raise NotFound("workspace", key)
    return _record(row)


def page(
    tx: Connection, *, subscription: str, resource_group: str | None = None, after: str | None = None, limit: int
) -> list[WorkspaceRecord]:
    """Workspaces of a subscription or of one of its groups, in the order of their keys, after the key ``after``."""
    start, end = _range(subscription, resource_group)
    return [_record(row) for row in tx.execute(_page, {"start": max(start, after or ""), "end": end, "limit": limit})]


def of_group(tx: Connection, subscription: str, resource_group: str) -> list[WorkspaceRecord]:
    """All workspaces of a resource group."""
    start, end = _range(subscription, resource_group)
    return [_record(row) for row in tx.execute(_all_between, {"start": start, "end": end})]


def count(tx: Connection, subscription: str, resource_group: str | None = None) -> int:
    """How many workspaces a subscription, or one of its groups, has."""
    start, end = _range(subscription, resource_group)
    return int(tx.execute(_count, {"start": start, "end": end}).scalar_one())


def set_tags(tx: Connection, key: str, tags: dict[str, str], now: int) -> WorkspaceRecord:
    """Replace the tags. Raises NotFound."""
    if rows_changed(tx, _set_tags, {"of": key, "t": to_json(tags), "m": now}) == 0:
        raise NotFound("workspace", key)
    return get(tx, key)


def set_scheduling(tx: Connection, key: str, rules: dict[str, Any], now: int) -> WorkspaceRecord:
    """Replace the scheduling rules; empty for none. Raises NotFound."""
    if rows_changed(tx, _set_scheduling, {"of": key, "rules": to_json(rules) if rules else None, "m": now}) == 0:
        raise NotFound("workspace", key)
    return get(tx, key)


def apply(tx: Connection, key: str, event: ProvisioningEvent, now: int) -> WorkspaceRecord:
    """Change the provisioning state. Raises NotFound, ImpossibleTransition."""
    _provisioned.apply(tx, key, event, now)
    return get(tx, key)


def deleting(tx: Connection) -> list[WorkspaceRecord]:
    """Workspaces whose deletion was asked for."""
    return [_record(row) for row in tx.execute(_deleting)]


def delete(tx: Connection, key: str) -> None:
    """Remove an empty workspace. Raises NotFound, InUse while it has clusters or experiments."""
    _provisioned.delete(tx, key)


def _range(subscription: str, resource_group: str | None) -> tuple[str, str]:
    prefix = subscription.lower() + "/" + (resource_group.lower() + "/" if resource_group is not None else "")
    return prefix, prefix[:-1] + "0"  # "0" follows "/".


def _record(row: Sequence[Any]) -> WorkspaceRecord:
    (
        key,
        subscription,
        resource_group,
        name,
        location,
        tags,
        state,
        state_at,
        created_at,
        modified_at,
        user_number,
        scheduling,
    ) = row
    return WorkspaceRecord(
        key,
        subscription,
        resource_group,
        name,
        location,
        from_json(tags),
        ProvisioningState(state),
        state_at,
        created_at,
        modified_at,
        user_number,
        from_json(scheduling) if scheduling else {},
    )
