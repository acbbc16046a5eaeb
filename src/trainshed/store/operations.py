"""Long-running operations: what a client polls after 202 (rest-contract section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, select, update
from sqlalchemy import insert as insert_into

from trainshed.resources.lifecycle import OPERATION, OperationEvent, OperationState, OperationVerb
from trainshed.resources.reasons import Reason
from trainshed.store._statements import first, refused_as, rows_changed
from trainshed.store.encoding import reason_from_text, reason_to_text
from trainshed.store.errors import AlreadyExists, NotFound
from trainshed.store.records import OperationRecord
from trainshed.store.tables import IN_PROGRESS
from trainshed.store.tables import operations as table

_insert = insert_into(table).inline()
_get = select(table).where(table.c.id == bindparam("of"))
_in_progress = select(table).where(IN_PROGRESS).order_by(table.c.started_at, table.c.id)
_end = update(table).values(status=bindparam("after"), ended_at=bindparam("now"), error=bindparam("e"))
_finish = _end.where(table.c.id == bindparam("of"), IN_PROGRESS)
_finish_for = _end.where(table.c.resource_key == bindparam("of"), table.c.verb == bindparam("v"), IN_PROGRESS)


def insert(tx: Connection, operation: OperationRecord) -> None:
    """Store an operation. Raises AlreadyExists."""
    with refused_as(tx, lambda: AlreadyExists("operation", operation.id)):
        tx.execute(
            _insert,
            {
                "id": operation.id,
                "subscription": operation.subscription,
                "location": operation.location,
                "resource_id": operation.resource_id,
                "verb": operation.verb.value,
                "resource_key": operation.resource_key,
                "status": operation.status.value,
                "started_at": operation.started_at,
                "ended_at": operation.ended_at,
                "error": reason_to_text(operation.error),
            },
        )


def get(tx: Connection, id: str) -> OperationRecord:
    """Raises NotFound."""
    row = first(tx, _get, {"of": id})
    if row is None:
        raise NotFound("operation", id)
    return _record(row)


def in_progress(tx: Connection) -> list[OperationRecord]:
    """Operations that have not ended, the oldest first."""
    return [_record(row) for row in tx.execute(_in_progress)]


def finish(tx: Connection, id: str, event: OperationEvent, now: int, error: Reason | None = None) -> None:
    """End an operation. Raises NotFound, ImpossibleTransition when it has ended already."""
    after = OPERATION.after(OperationState.IN_PROGRESS, event)
    parameters = {"of": id, "after": after.value, "now": now, "e": reason_to_text(error)}
    if rows_changed(tx, _finish, parameters) == 0:
        OPERATION.after(get(tx, id).status, event)


def finish_for(
    tx: Connection, verb: OperationVerb, resource_key: str, event: OperationEvent, now: int, error: Reason | None = None
) -> int:
    """End every operation in progress that does ``verb`` to the resource; returns how many there were."""
    after = OPERATION.after(OperationState.IN_PROGRESS, event)
    parameters = {"of": resource_key, "v": verb.value, "after": after.value, "now": now, "e": reason_to_text(error)}
    return rows_changed(tx, _finish_for, parameters)


def _record(row: Sequence[Any]) -> OperationRecord:
    id, subscription, location, resource_id, verb, resource_key, status, started_at, ended_at, error = row
    return OperationRecord(
        id,
        subscription,
        location,
        resource_id,
        OperationVerb(verb),
        resource_key,
        OperationState(status),
        started_at,
        ended_at,
        reason_from_text(error),
    )
