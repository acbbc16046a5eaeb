"""Job arrays: jobs that were submitted together, and whose turn it is where only some may run at once."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Executable, bindparam, func, select, update
from sqlalchemy import delete as delete_from
from sqlalchemy import insert as insert_into

from trainshed.resources.lifecycle import JOB, JobState
from trainshed.store._statements import first, refused_as
from trainshed.store.encoding import from_json, to_json
from trainshed.store.errors import AlreadyExists, NotFound
from trainshed.store.job_lookup import record_of
from trainshed.store.records import JobArrayRecord, JobRecord
from trainshed.store.tables import ARRAYED, IN_LINE, jobs
from trainshed.store.tables import job_arrays as table

_FINAL = [state.value for state in JOB.final]

_insert = insert_into(table)
_get = select(table).where(table.c.key == bindparam("of"))
_page = (
    select(table)
    .where(table.c.experiment_key == bindparam("experiment_key"), table.c.id > bindparam("after_id"))
    .order_by(table.c.id)
    .limit(bindparam("limit"))
)
_delete = delete_from(table).where(table.c.id == bindparam("of"))
_mine = (jobs.c.array_id == bindparam("of"), ARRAYED)
_members = select(jobs).where(*_mine).order_by(jobs.c.id)
_counts = select(jobs.c.execution, func.count()).where(*_mine).group_by(jobs.c.execution)
_limit = select(table.c.max_running).where(table.c.id == bindparam("of"))
_taken = select(func.count()).select_from(jobs).where(*_mine, jobs.c.waits_turn == 0, jobs.c.execution.not_in(_FINAL))
_next = (
    select(jobs.c.id)
    .where(*_mine, jobs.c.waits_turn == 1, jobs.c.execution == JobState.QUEUED.value)
    .order_by(jobs.c.id)
    .limit(bindparam("number"))
)
_release = update(jobs).where(jobs.c.id.in_(_next)).values(waits_turn=0, blocked=jobs.c.blocked - 1)
_with_line = select(jobs.c.array_id).where(IN_LINE).distinct()


def insert(
    tx: Connection, *, key: str, experiment_key: str, name: str, definition: dict[str, Any], limit: int | None, now: int
) -> JobArrayRecord:
    """Store an array; its jobs are the caller's. Raises AlreadyExists."""
    row = {
        "key": key,
        "experiment_key": experiment_key,
        "name": name,
        "definition": to_json(definition),
        "max_running": limit,
        "created_at": now,
    }
    with refused_as(tx, lambda: AlreadyExists("job array", key)):
        result = tx.execute(_insert, row)
    assert result.inserted_primary_key is not None
    return JobArrayRecord(result.inserted_primary_key[0], key, experiment_key, name, definition, limit, now)


def get(tx: Connection, key: str) -> JobArrayRecord:
    """By key. Raises NotFound."""
    row = first(tx, _get, {"of": key})
    if row is None:
        raise NotFound("job array", key)
    return _record(row)


def page(tx: Connection, experiment_key: str, after_id: int | None, limit: int) -> list[JobArrayRecord]:
    """Arrays of an experiment in the order of their submission, after the id ``after_id``."""
    rows = tx.execute(_page, {"experiment_key": experiment_key, "after_id": after_id or 0, "limit": limit})
    return [_record(row) for row in rows]


def members(tx: Connection, array_id: int) -> list[JobRecord]:
    """The array's jobs that are still there, in the order of their submission."""
    return [record_of(row) for row in tx.execute(_members, {"of": array_id})]


def counts(tx: Connection, array_id: int) -> dict[JobState, int]:
    """How many of its jobs are in each execution state."""
    found = dict.fromkeys(JobState, 0)
    for state, number in tx.execute(_counts, {"of": array_id}):
        found[JobState(state)] = number
    return found


def delete(tx: Connection, array_id: int) -> None:
    """Forget the array; its jobs are the caller's."""
    tx.execute(_delete, {"of": array_id})


def limit(tx: Connection, array_id: int | None) -> int | None:
    """How many of its jobs may run at once; None for all, or when it is gone."""
    found: int | None = tx.execute(_limit, {"of": array_id}).scalar()
    return found


def room(tx: Connection, array_id: int) -> int:
    """How many further jobs may join their queue now; 0 where all did from the beginning."""
    most = limit(tx, array_id)
    return 0 if most is None else max(0, most - _number(tx, _taken, array_id))


def release(tx: Connection, array_id: int, number: int) -> None:
    """The turn of the next ``number`` jobs has come."""
    tx.execute(_release, {"of": array_id, "number": number})


def with_line(tx: Connection) -> list[int]:
    """ids of the arrays of which jobs wait for their turn."""
    return [row[0] for row in tx.execute(_with_line)]


def _number(tx: Connection, statement: Executable, array_id: int) -> int:
    return int(tx.execute(statement, {"of": array_id}).scalar_one())


def _record(row: Any) -> JobArrayRecord:
    id_, key, experiment_key, name, definition, max_running, created_at = row
    return JobArrayRecord(id_, key, experiment_key, name, from_json(definition), max_running, created_at)
