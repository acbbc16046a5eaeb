"""All jobs of an experiment at once: a few statements, however many they are."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, insert, literal, null, select, update
from sqlalchemy import delete as delete_from

from trainshed.resources.lifecycle import (
    OPERATION,
    OperationEvent,
    OperationState,
    OperationVerb,
    ProvisioningEvent,
    ProvisioningState,
)
from trainshed.store._statements import first, rows_changed
from trainshed.store.events import Kind
from trainshed.store.tables import IN_PROGRESS, LIVE, attempts, events, operations, secrets
from trainshed.store.tables import jobs as table

#: Under a name of its own, also where attempts are what is deleted.
_live = attempts.alias("holder")
_of = table.c.experiment_key == bindparam("of")
_staying = (_of, table.c.state != ProvisioningState.DELETING.value)
_log_requests = insert(events).from_select(
    ["at", "kind", "resource_key", "event", "from_state", "to_state", "reason", "details"],
    select(
        bindparam("now", type_=events.c.at.type),
        literal(Kind.JOB.value),
        table.c.key,
        literal(ProvisioningEvent.DELETE_REQUESTED.value),
        table.c.state,
        literal(ProvisioningState.DELETING.value),
        null(),
        null(),
    )
    .where(*_staying)
    .order_by(table.c.id),
)
_request = update(table).where(*_staying).values(state=ProvisioningState.DELETING.value, state_at=bindparam("now"))
_idle = (
    _of,
    table.c.state == ProvisioningState.DELETING.value,
    ~select(_live.c.id).where(_live.c.job_id == table.c.id, LIVE).correlate(table).exists(),
)
#: The newest of the oldest so many: what is deleted together lies up to here.
_bound = select(table.c.id).where(*_idle).order_by(table.c.id).limit(bindparam("limit")).subquery()
_last = select(_bound.c.id).order_by(_bound.c.id.desc()).limit(1)
_chosen = (*_idle, table.c.id <= bindparam("last"))
_finish_operations = (
    update(operations)
    .where(
        IN_PROGRESS,
        operations.c.verb.in_([OperationVerb.TERMINATE_JOB.value, OperationVerb.DELETE_JOB.value]),
        operations.c.resource_key.in_(select(table.c.key).where(*_chosen)),
    )
    .values(
        status=OPERATION.after(OperationState.IN_PROGRESS, OperationEvent.SUCCEEDED).value, ended_at=bindparam("now")
    )
)
_delete_secrets = delete_from(secrets).where(secrets.c.owner_uid.in_(select(table.c.uid).where(*_chosen)))
_delete_jobs = delete_from(table).where(*_chosen)
_delete_attempts = delete_from(attempts).where(attempts.c.job_id.in_(select(table.c.id).where(*_chosen)))
_any = select(table.c.id).where(_of).limit(1)


def request_deletion(tx: Connection, experiment_key: str, now: int) -> int:
    """Every job of the experiment is to go, each with its event; returns how many were not yet."""
    tx.execute(_log_requests, {"of": experiment_key, "now": now})
    return rows_changed(tx, _request, {"of": experiment_key, "now": now})


def delete_idle(tx: Connection, experiment_key: str, now: int, limit: int) -> int:
    """Remove the oldest ``limit`` jobs that are to go and hold no nodes, as ``job_states.delete`` does with one.

    Their attempts and secrets go too, what waits for their end is told, their events stay. Returns how many they were.
    """
    row = first(tx, _last, {"of": experiment_key, "limit": limit})
    if row is None:
        return 0
    chosen = {"of": experiment_key, "last": row[0]}
    tx.execute(_finish_operations, {**chosen, "now": now})
    tx.execute(_delete_secrets, chosen)
    tx.execute(_delete_attempts, chosen)
    return rows_changed(tx, _delete_jobs, chosen)


def any_of(tx: Connection, experiment_key: str) -> bool:
    """Whether the experiment has jobs."""
    return first(tx, _any, {"of": experiment_key}) is not None
