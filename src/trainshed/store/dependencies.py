"""What jobs still wait for: conditions on other jobs that are not met yet. What is met is removed.

``jobs.blocked`` counts a job's rows here (and its turn in an array), and takes it out of its queue until there are
none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import BigInteger, Connection, Executable, bindparam, func, or_, select, update
from sqlalchemy import delete as delete_from
from sqlalchemy import insert as insert_into

from trainshed.resources.conditions import Condition
from trainshed.resources.lifecycle import JOB, JobState
from trainshed.store._statements import rows_changed
from trainshed.store.records import DependencyRecord
from trainshed.store.tables import dependencies as table
from trainshed.store.tables import jobs

_of_job = table.c.job_id == bindparam("of", type_=BigInteger)
_on = table.c.on_job_id == bindparam("of", type_=BigInteger)
_insert = insert_into(table).inline()
_block = update(jobs).where(jobs.c.id == bindparam("of")).values(blocked=jobs.c.blocked + bindparam("number"))
_unblock = update(jobs).where(jobs.c.id == bindparam("of")).values(blocked=0, waits_turn=0)
# One that waits in an engine's own queue has not started.
_begun = jobs.c.attempts - jobs.c.handed_over
_joined = (
    select(table.c.job_id, table.c.on_job_id, table.c.condition, table.c.on_name, jobs.c.execution, _begun)
    .select_from(table.outerjoin(jobs, jobs.c.id == table.c.on_job_id))
    .order_by(table.c.job_id, table.c.on_job_id)
)
_unmet = _joined.where(_of_job)
_waiting_on = _joined.where(_on)
_met = (_on, table.c.condition.in_(bindparam("conditions", expanding=True)))
_count_met = select(func.count()).where(table.c.job_id == jobs.c.id, *_met).correlate(jobs).scalar_subquery()
_release = (
    update(jobs).where(jobs.c.id.in_(select(table.c.job_id).where(*_met))).values(blocked=jobs.c.blocked - _count_met)
)
_remove_met = delete_from(table).where(*_met)
_remove = delete_from(table).where(_of_job)
_decided = (
    select(table.c.on_job_id)
    .distinct()
    .select_from(table.outerjoin(jobs, jobs.c.id == table.c.on_job_id))
    .where(
        or_(
            jobs.c.id.is_(None),
            jobs.c.execution.in_([state.value for state in JOB.final]),
            (_begun > 0) & (table.c.condition == Condition.AFTER.value),
        )
    )
    .order_by(table.c.on_job_id)
    .limit(bindparam("limit"))
)


def insert(tx: Connection, job_id: int, conditions: Iterable[tuple[int, Condition, str]]) -> None:
    """The job waits: for jobs of these ids, under these conditions, named so by the user. Repetitions count once."""
    rows = {
        (on, condition): {"job_id": job_id, "on_job_id": on, "condition": condition.value, "on_name": name}
        for on, condition, name in conditions
    }
    if rows:
        tx.execute(_insert, list(rows.values()))
        tx.execute(_block, {"of": job_id, "number": len(rows)})


def unmet(tx: Connection, job_id: int) -> list[DependencyRecord]:
    """What the job still waits for."""
    return _records(tx, _unmet, {"of": job_id})


def waiting_on(tx: Connection, on_job_id: int) -> list[DependencyRecord]:
    """Who waits for this job, the oldest first; it may be gone."""
    return _records(tx, _waiting_on, {"of": on_job_id})


def meet(tx: Connection, on_job_id: int, conditions: Iterable[Condition]) -> int:
    """These conditions on that job are met, for all who wait; returns for how many."""
    parameters = {"of": on_job_id, "conditions": [condition.value for condition in conditions]}
    tx.execute(_release, parameters)
    return rows_changed(tx, _remove_met, parameters)


def clear(tx: Connection, job_id: int) -> None:
    """The job waits for nothing any more: it has ended."""
    tx.execute(_remove, {"of": job_id})
    tx.execute(_unblock, {"of": job_id})


def decided(tx: Connection, limit: int) -> list[int]:
    """ids of jobs, gone ones included, that are waited for although they have started or ended already."""
    return [row[0] for row in tx.execute(_decided, {"limit": limit})]


def _records(tx: Connection, statement: Executable, parameters: dict[str, Any]) -> list[DependencyRecord]:
    return [_record(row) for row in tx.execute(statement, parameters)]


def _record(row: Sequence[Any]) -> DependencyRecord:
    job_id, on_job_id, condition, on_name, execution, attempts = row
    state = None if execution is None else JobState(execution)
    return DependencyRecord(job_id, on_job_id, condition, on_name, state, attempts)
