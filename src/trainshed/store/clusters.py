"""Clusters: what is wanted of their nodes, and how far that is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, case, func, select, update
from sqlalchemy import delete as delete_from
from sqlalchemy import insert as insert_into

from trainshed.resources.lifecycle import (
    ALLOCATION,
    AllocationEvent,
    AllocationState,
    NodeState,
    ProvisioningEvent,
    ProvisioningState,
)
from trainshed.resources.reasons import Reason
from trainshed.store import events, meta
from trainshed.store._provisioning import Provisioned
from trainshed.store._statements import first, refused_as, rows_changed
from trainshed.store.encoding import from_json, reasons_from_text, reasons_to_text, to_json
from trainshed.store.errors import AlreadyExists, InUse, NotFound, StaleState
from trainshed.store.records import ClusterRecord
from trainshed.store.tables import NOT_GONE, holdings, nodes
from trainshed.store.tables import clusters as table

_provisioned = Provisioned(table, events.Kind.CLUSTER)
_POOL = "last-pool"

_of = table.c.key == bindparam("of")
_insert = insert_into(table).inline()
_get = select(table).where(_of)
_get_by_uid = select(table).where(table.c.uid == bindparam("uid"))
_all = select(table).order_by(table.c.key)
_engines = select(table.c.uid, table.c.engine)
_uids = select(table.c.uid)
_page = _all.where(table.c.workspace_key == bindparam("workspace_key"), table.c.key > bindparam("after")).limit(
    bindparam("limit")
)
#: Replacing nodes that failed starts afresh, at once.
_AFRESH = to_json({"failures": 0, "nextTry": 0, "triedAt": None, "givenUp": False})
_set_scale = (
    update(table)
    .where(_of)
    .values(
        scale=bindparam("s"),
        modified_at=bindparam("m"),
        recovery=case((table.c.recovery.is_not(None), _AFRESH), else_=None),
    )
)
_set_recovery = update(table).where(_of).values(recovery=bindparam("r", type_=table.c.recovery.type))
_set_errors = update(table).where(_of).values(errors=bindparam("e"))
_allocation = select(table.c.allocation).where(_of)
_set_allocation = (
    update(table)
    .where(_of, table.c.allocation == bindparam("before"))
    .values(allocation=bindparam("after"), allocation_at=bindparam("now"))
)
_take_ordinals = (
    update(table)
    .where(_of)
    .values(next_ordinal=table.c.next_ordinal + bindparam("count"))
    .returning(table.c.next_ordinal)
)
_drop_gone_nodes = delete_from(nodes).where(
    nodes.c.state == NodeState.GONE.value,
    nodes.c.cluster_uid == select(table.c.uid).where(_of).scalar_subquery(),
)
_held = holdings.c.node_id.is_not(None)
_node_counts = (
    select(nodes.c.state, _held.label("held"), func.count())
    .select_from(nodes.outerjoin(holdings, holdings.c.node_id == nodes.c.id))
    .where(nodes.c.cluster_uid == bindparam("cluster_uid"), NOT_GONE)
    .group_by(nodes.c.state, _held)
)


def insert(tx: Connection, cluster: ClusterRecord) -> None:
    """Store a new cluster. Raises AlreadyExists; the workspace must exist."""
    with refused_as(tx, lambda: AlreadyExists("cluster", cluster.key)):
        tx.execute(
            _insert,
            {
                "key": cluster.key,
                "workspace_key": cluster.workspace_key,
                "name": cluster.name,
                "uid": cluster.uid,
                "pool": cluster.pool,
                "engine": cluster.engine,
                "vm_size": cluster.vm_size,
                "definition": to_json(cluster.definition),
                "scale": to_json(cluster.scale),
                "state": cluster.state.value,
                "state_at": cluster.state_at,
                "allocation": cluster.allocation.value,
                "allocation_at": cluster.allocation_at,
                "errors": reasons_to_text(cluster.errors),
                "created_at": cluster.created_at,
                "modified_at": cluster.modified_at,
                "next_ordinal": cluster.next_ordinal,
            },
        )
    _provisioned.created(tx, cluster.key, cluster.state, cluster.created_at)


def get(tx: Connection, key: str) -> ClusterRecord:
    """Raises NotFound."""
    row = first(tx, _get, {"of": key})
    if row is None:
        raise NotFound("cluster", key)
    return _record(row)


def get_by_uid(tx: Connection, uid: str) -> ClusterRecord:
    """Raises NotFound."""
    row = first(tx, _get_by_uid, {"uid": uid})
    if row is None:
        raise NotFound("cluster", uid)
    return _record(row)


def page(tx: Connection, workspace_key: str, after: str | None, limit: int) -> list[ClusterRecord]:
    """Clusters of a workspace in the order of their keys, after the key ``after``."""
    rows = tx.execute(_page, {"workspace_key": workspace_key, "after": after or "", "limit": limit})
    return [_record(row) for row in rows]


def all(tx: Connection) -> list[ClusterRecord]:
    """Every cluster."""
    return [_record(row) for row in tx.execute(_all)]


def uids(tx: Connection) -> set[str]:
    """uids of every cluster."""
    return {row[0] for row in tx.execute(_uids)}


def engines(tx: Connection) -> dict[str, str]:
    """By uid, the engine of every cluster."""
    return {row[0]: row[1] for row in tx.execute(_engines)}


def next_pool(tx: Connection) -> int:
    """A number for a new cluster, never given before."""
    pool = int(meta.get(tx, _POOL) or 0) + 1
    meta.set(tx, _POOL, str(pool))
    return pool


def set_scale(tx: Connection, key: str, scale: dict[str, Any], now: int) -> ClusterRecord:
    """Replace the scale settings: a user's change. Nodes that failed are replaced at once. Raises NotFound."""
    if rows_changed(tx, _set_scale, {"of": key, "s": to_json(scale), "m": now}) == 0:
        raise NotFound("cluster", key)
    return get(tx, key)


def set_recovery(tx: Connection, key: str, recovery: dict[str, Any] | None) -> None:
    """Record how far replacing failed nodes is; None when the cluster is well. Raises NotFound."""
    text = None if recovery is None else to_json(recovery)
    if rows_changed(tx, _set_recovery, {"of": key, "r": text}) == 0:
        raise NotFound("cluster", key)


def set_errors(tx: Connection, key: str, errors: Iterable[Reason]) -> None:
    """Replace the errors that the cluster shows. Raises NotFound."""
    if rows_changed(tx, _set_errors, {"of": key, "e": reasons_to_text(errors)}) == 0:
        raise NotFound("cluster", key)


def apply_provisioning(tx: Connection, key: str, event: ProvisioningEvent, now: int) -> ClusterRecord:
    """Change the provisioning state. Raises NotFound, ImpossibleTransition."""
    _provisioned.apply(tx, key, event, now)
    return get(tx, key)


def apply_allocation(tx: Connection, key: str, event: AllocationEvent, now: int) -> ClusterRecord:
    """Change the allocation state. Raises NotFound, ImpossibleTransition."""
    row = first(tx, _allocation, {"of": key})
    if row is None:
        raise NotFound("cluster", key)
    before = AllocationState(row[0])
    after = ALLOCATION.after(before, event)
    parameters = {"of": key, "before": before.value, "after": after.value, "now": now}
    if rows_changed(tx, _set_allocation, parameters) != 1:
        raise StaleState(f"cluster {key} is no longer {before.value}")
    events.append(
        tx,
        kind=events.Kind.CLUSTER,
        resource_key=key,
        event=event.value,
        from_state=before.value,
        to_state=after.value,
        now=now,
    )
    return get(tx, key)


def take_ordinals(tx: Connection, key: str, count: int) -> int:
    """Reserve ``count`` node numbers, never given before in this cluster; returns the first. Raises NotFound."""
    row = first(tx, _take_ordinals, {"of": key, "count": count})
    if row is None:
        raise NotFound("cluster", key)
    return int(row[0]) - count


def delete(tx: Connection, key: str) -> None:
    """Remove a cluster and the records of its former nodes. Raises NotFound, InUse while it has nodes."""
    with refused_as(tx, lambda: InUse(f"a former node of cluster {key} is still held by an attempt")):
        tx.execute(_drop_gone_nodes, {"of": key})
    _provisioned.delete(tx, key)


def node_counts(tx: Connection, cluster_uid: str) -> dict[str, int]:
    """How many nodes are ``idle``, ``running``, ``preparing``, ``unusable`` and ``leaving`` (all five are present)."""
    counts = {"idle": 0, "running": 0, "preparing": 0, "unusable": 0, "leaving": 0}
    for state, held, number in tx.execute(_node_counts, {"cluster_uid": cluster_uid}):
        shown = ("running" if held else "idle") if state == NodeState.READY.value else state
        counts[shown] += number
    return counts


def _record(row: Sequence[Any]) -> ClusterRecord:
    (
        key,
        workspace_key,
        name,
        uid,
        pool,
        engine,
        vm_size,
        definition,
        scale,
        state,
        state_at,
        allocation,
        allocation_at,
        errors,
        created_at,
        modified_at,
        next_ordinal,
        recovery,
    ) = row
    return ClusterRecord(
        key,
        workspace_key,
        name,
        uid,
        pool,
        engine,
        vm_size,
        from_json(definition),
        from_json(scale),
        ProvisioningState(state),
        state_at,
        AllocationState(allocation),
        allocation_at,
        reasons_from_text(errors),
        created_at,
        modified_at,
        next_ordinal,
        None if recovery is None else from_json(recovery),
    )
