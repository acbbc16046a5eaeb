"""Nodes: their states, and what the engine says of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, func, select, update
from sqlalchemy import delete as delete_from
from sqlalchemy import insert as insert_into

from trainshed.resources.lifecycle import NODE, NodeEvent, NodeState
from trainshed.resources.reasons import Reason
from trainshed.store import events
from trainshed.store._statements import first, refused_as, rows_changed
from trainshed.store.encoding import from_json, reason_from_text, reason_to_text, to_json
from trainshed.store.errors import AlreadyExists, InUse, NotFound, StaleState
from trainshed.store.records import NodeLoss, NodeRecord
from trainshed.store.tables import NOT_GONE, clusters, holdings
from trainshed.store.tables import nodes as table

#: Losses of a node that are remembered.
_LOSSES_KEPT = 20

_of = table.c.id == bindparam("of")
_columns = [column for column in table.c if column.name != "released_at"]
_select = select(*_columns, holdings.c.attempt_id).select_from(
    table.outerjoin(holdings, holdings.c.node_id == table.c.id),
)
_insert = insert_into(table).inline()
_get = _select.where(_of)
_of_cluster = _select.where(table.c.cluster_uid == bindparam("cluster_uid"), NOT_GONE).order_by(table.c.ordinal)
_all_live = _select.where(NOT_GONE).order_by(table.c.cluster_uid, table.c.ordinal)
_cluster_key = select(clusters.c.key).where(clusters.c.uid == bindparam("uid"))
_position = (
    select(table.c.state, clusters.c.key).select_from(table.join(clusters, clusters.c.uid == table.c.cluster_uid))
).where(_of)
_apply = (
    update(table)
    .where(_of, table.c.state == bindparam("before"))
    .values(state=bindparam("after"), state_at=bindparam("now"), reason=bindparam("why"))
)
_set_facts = (
    update(table)
    .where(_of)
    .values(boot=bindparam("b"), host_name=bindparam("h"), address=bindparam("a"), ssh_port=bindparam("p"))
)
_losses = select(table.c.losses).where(_of)
_set_losses = update(table).where(_of).values(losses=bindparam("l", type_=table.c.losses.type))
_set_reason = update(table).where(_of).values(reason=bindparam("why"))
_idle = (
    select(table.c.id)
    .select_from(table.outerjoin(holdings, holdings.c.node_id == table.c.id))
    .where(table.c.state == NodeState.READY.value, NOT_GONE, holdings.c.node_id.is_(None))
    .limit(1)
)
_released = select(table.c.id, table.c.released_at).where(
    table.c.cluster_uid == bindparam("cluster_uid"), NOT_GONE, table.c.released_at.is_not(None)
)
_delete = delete_from(table).where(table.c.id == bindparam("of"))
_counts = select(table.c.state, func.count()).where(NOT_GONE).group_by(table.c.state)


def insert(tx: Connection, node: NodeRecord) -> None:
    """Store a new node. Raises AlreadyExists; the cluster must exist."""
    with refused_as(tx, lambda: AlreadyExists("node", node.id)):
        tx.execute(
            _insert,
            {
                "id": node.id,
                "cluster_uid": node.cluster_uid,
                "ordinal": node.ordinal,
                "state": node.state.value,
                "state_at": node.state_at,
                "boot": node.boot,
                "host_name": node.host_name,
                "address": node.address,
                "ssh_port": node.ssh_port,
                "reason": reason_to_text(node.reason),
            },
        )
    key = tx.execute(_cluster_key, {"uid": node.cluster_uid}).scalar_one()
    _log(tx, node.id, key, events.CREATED, None, node.state, node.state_at, node.reason)


def get(tx: Connection, id: str) -> NodeRecord:
    """Raises NotFound."""
    row = first(tx, _get, {"of": id})
    if row is None:
        raise NotFound("node", id)
    return _record(row)


def of_cluster(tx: Connection, cluster_uid: str) -> list[NodeRecord]:
    """The cluster's nodes that are not gone, by ordinal, each with the live attempt that holds it."""
    return [_record(row) for row in tx.execute(_of_cluster, {"cluster_uid": cluster_uid})]


def all_live(tx: Connection) -> list[NodeRecord]:
    """The nodes of every cluster that are not gone."""
    return [_record(row) for row in tx.execute(_all_live)]


def apply(tx: Connection, id: str, event: NodeEvent, now: int, reason: Reason | None = None) -> NodeRecord:
    """Change the state; ``reason`` becomes the node's (None: it has none). Raises NotFound, ImpossibleTransition."""
    row = first(tx, _position, {"of": id})
    if row is None:
        raise NotFound("node", id)
    before, cluster_key = NodeState(row[0]), row[1]
    after = NODE.after(before, event)
    parameters = {"of": id, "before": before.value, "after": after.value, "now": now, "why": reason_to_text(reason)}
    if rows_changed(tx, _apply, parameters) != 1:
        raise StaleState(f"node {id} is no longer {before.value}")
    _log(tx, id, cluster_key, event.value, before, after, now, reason)
    return get(tx, id)


def delete(tx: Connection, id: str) -> None:
    """Forget a node of an engine's own that it does not show any more. Raises NotFound, InUse while it is held."""
    with refused_as(tx, lambda: InUse(f"node {id} is held by an attempt")):
        if rows_changed(tx, _delete, {"of": id}) == 0:
            raise NotFound("node", id)


def set_facts(tx: Connection, id: str, *, boot: int, host_name: str, address: str, ssh_port: int | None) -> None:
    """Record what the engine says of the node. Raises NotFound."""
    parameters = {"of": id, "b": boot, "h": host_name, "a": address, "p": ssh_port}
    if rows_changed(tx, _set_facts, parameters) == 0:
        raise NotFound("node", id)


def set_reason(tx: Connection, id: str, reason: Reason | None) -> None:
    """Record why the node is not usable yet, without a change of state. Raises NotFound."""
    if rows_changed(tx, _set_reason, {"of": id, "why": reason_to_text(reason)}) == 0:
        raise NotFound("node", id)


def add_loss(tx: Connection, id: str, loss: NodeLoss) -> tuple[NodeLoss, ...]:
    """An attempt was lost on the node. Returns all that were lost there one after another. Raises NotFound."""
    row = first(tx, _losses, {"of": id})
    if row is None:
        raise NotFound("node", id)
    losses = (*_losses_of(row[0]), loss)[-_LOSSES_KEPT:]
    _write_losses(tx, id, losses)
    return losses


def forgive_losses(tx: Connection, id: str, job_id: int) -> None:
    """The job's losses were not the node's fault. Nothing to do when the node is no longer recorded."""
    row = first(tx, _losses, {"of": id})
    if row is not None and row[0] is not None:
        _write_losses(tx, id, tuple(loss for loss in _losses_of(row[0]) if loss.job_id != job_id))


def _write_losses(tx: Connection, id: str, losses: tuple[NodeLoss, ...]) -> None:
    rows = [[loss.attempt_id, loss.job_id, loss.job, loss.number] for loss in losses]
    tx.execute(_set_losses, {"of": id, "l": to_json(rows) if rows else None})


def _losses_of(text: str | None) -> tuple[NodeLoss, ...]:
    return () if text is None else tuple(NodeLoss(*row) for row in from_json(text))


def any_idle(tx: Connection) -> bool:
    """Whether any node of any cluster is ready and held by no attempt."""
    return first(tx, _idle, {}) is not None


def released_at(tx: Connection, cluster_uid: str) -> dict[str, int]:
    """By node id, when (Unix ms) the last attempt let go of it; nodes that never had one are absent."""
    return {row[0]: row[1] for row in tx.execute(_released, {"cluster_uid": cluster_uid})}


def counts_by_state(tx: Connection) -> dict[NodeState, int]:
    """How many nodes of all clusters are in each state but GONE, for metrics."""
    counts: dict[NodeState, int] = {state: 0 for state in NodeState if state is not NodeState.GONE}
    for state, number in tx.execute(_counts):
        counts[NodeState(state)] = number
    return counts


def _log(
    tx: Connection,
    id: str,
    cluster_key: str,
    event: str,
    before: NodeState | None,
    after: NodeState,
    now: int,
    reason: Reason | None,
) -> None:
    events.append(
        tx,
        kind=events.Kind.NODE,
        resource_key=cluster_key,
        event=event,
        from_state=None if before is None else before.value,
        to_state=after.value,
        now=now,
        reason=reason,
        details={"node": id},
    )


def _record(row: Sequence[Any]) -> NodeRecord:
    id, cluster_uid, ordinal, state, state_at, boot, host_name, address, ssh_port, reason, losses, attempt_id = row
    return NodeRecord(
        id,
        cluster_uid,
        ordinal,
        NodeState(state),
        state_at,
        boot,
        host_name,
        address,
        ssh_port,
        reason_from_text(reason),
        attempt_id,
        _losses_of(losses),
    )
