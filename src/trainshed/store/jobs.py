"""Jobs: submission, look-up and every change of their state."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, bindparam, func, select
from sqlalchemy import insert as insert_into

from trainshed.resources.lifecycle import JOB, JobState, ProvisioningState
from trainshed.store import events
from trainshed.store._statements import refused_as
from trainshed.store.encoding import to_json
from trainshed.store.errors import AlreadyExists
from trainshed.store.job_lookup import get, get_by_id, get_by_uid, record_of
from trainshed.store.job_states import (
    begin,
    delete,
    finish,
    hand_over,
    place,
    preempt,
    request_deletion,
    request_termination,
    requeue,
    retry,
)
from trainshed.store.past_runs import past_runs
from trainshed.store.queue import (
    blocked,
    clusters_with_queue,
    delayed,
    handed_over,
    lanes,
    next_due,
    queue_ahead,
    walk,
)
from trainshed.store.records import JobRecord, NewJob
from trainshed.store.tables import ENDING
from trainshed.store.tables import jobs as table

__all__ = [
    "begin",
    "blocked",
    "clusters_with_queue",
    "counts_by_state",
    "delayed",
    "delete",
    "ending",
    "finish",
    "get",
    "get_by_id",
    "get_by_uid",
    "hand_over",
    "handed_over",
    "insert",
    "lanes",
    "next_due",
    "of_cluster",
    "of_experiment_ids",
    "page",
    "past_runs",
    "place",
    "preempt",
    "queue_ahead",
    "request_deletion",
    "request_termination",
    "requeue",
    "retry",
    "walk",
]

_insert = insert_into(table)
_page = (
    select(table)
    .where(table.c.experiment_key == bindparam("experiment_key"), table.c.id > bindparam("after_id"))
    .order_by(table.c.id)
    .limit(bindparam("limit"))
)
_of_experiment_ids = select(table.c.id).where(table.c.experiment_key == bindparam("of")).order_by(table.c.id)
_ending = select(table).where(ENDING).order_by(table.c.id)
_of_cluster = (
    select(table)
    .where(table.c.cluster_uid == bindparam("cluster_uid"), table.c.execution.in_(bindparam("states", expanding=True)))
    .order_by(table.c.id)
)
_counts = select(table.c.execution, func.count()).group_by(table.c.execution)


def insert(tx: Connection, job: NewJob) -> JobRecord:
    """Store a submitted job; it is queued. Raises AlreadyExists; the experiment must exist."""
    row = {
        "key": job.key,
        "experiment_key": job.experiment_key,
        "workspace_key": job.workspace_key,
        "cluster_key": job.cluster_key,
        "cluster_uid": job.cluster_uid,
        "name": job.name,
        "uid": job.uid,
        "segment": job.segment,
        "priority": job.priority,
        "node_count": job.node_count,
        "tool_type": job.tool_type,
        "definition": to_json(job.definition),
        "wall_clock_seconds": job.wall_clock_seconds,
        "state": ProvisioningState.SUCCEEDED.value,
        "state_at": job.created_at,
        "execution": JOB.initial.value,
        "execution_at": job.created_at,
        "created_at": job.created_at,
        "modified_at": job.created_at,
        "errors": "[]",
        "attempts": 0,
        "lost_attempts": 0,
        "code_snapshot": job.code_snapshot,
        "submitted_by": job.submitted_by,
        "blocked": job.waits_turn,
        "array_id": job.array_id,
        "waits_turn": job.waits_turn,
    }
    with refused_as(tx, lambda: AlreadyExists("job", job.key)):
        result = tx.execute(_insert, row)
    events.append(
        tx,
        kind=events.Kind.JOB,
        resource_key=job.key,
        event=events.SUBMITTED,
        from_state=None,
        to_state=JOB.initial.value,
        now=job.created_at,
    )
    assert result.inserted_primary_key is not None
    return JobRecord(
        id=result.inserted_primary_key[0],
        key=job.key,
        experiment_key=job.experiment_key,
        workspace_key=job.workspace_key,
        cluster_key=job.cluster_key,
        cluster_uid=job.cluster_uid,
        name=job.name,
        uid=job.uid,
        segment=job.segment,
        priority=job.priority,
        node_count=job.node_count,
        tool_type=job.tool_type,
        definition=job.definition,
        wall_clock_seconds=job.wall_clock_seconds,
        state=ProvisioningState.SUCCEEDED,
        state_at=job.created_at,
        execution=JOB.initial,
        execution_at=job.created_at,
        created_at=job.created_at,
        modified_at=job.created_at,
        code_snapshot=job.code_snapshot,
        submitted_by=job.submitted_by,
        blocked=job.waits_turn,
        array_id=job.array_id,
        waits_turn=job.waits_turn,
    )


def page(tx: Connection, experiment_key: str, after_id: int | None, limit: int) -> list[JobRecord]:
    """Jobs of an experiment in the order of their submission, after the id ``after_id``."""
    rows = tx.execute(_page, {"experiment_key": experiment_key, "after_id": after_id or 0, "limit": limit})
    return [record_of(row) for row in rows]


def of_experiment_ids(tx: Connection, experiment_key: str) -> list[int]:
    """ids of all jobs of an experiment."""
    return [row[0] for row in tx.execute(_of_experiment_ids, {"of": experiment_key})]


def of_cluster(tx: Connection, cluster_uid: str, states: Iterable[JobState]) -> list[JobRecord]:
    """Jobs of a cluster that are in one of the states, in the order of their submission."""
    parameters = {"cluster_uid": cluster_uid, "states": [state.value for state in states]}
    return [record_of(row) for row in tx.execute(_of_cluster, parameters)]


def ending(tx: Connection) -> list[JobRecord]:
    """Jobs that are to be stopped or deleted."""
    return [record_of(row) for row in tx.execute(_ending)]


def counts_by_state(tx: Connection) -> dict[JobState, int]:
    """How many jobs are in each execution state."""
    counts = dict.fromkeys(JobState, 0)
    for state, number in tx.execute(_counts):
        counts[JobState(state)] = number
    return counts
