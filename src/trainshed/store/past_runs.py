"""How long jobs of the past ran. ``jobs`` offers this as its own."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, func, select

from trainshed.store.tables import jobs

_columns = (
    jobs.c.id,
    func.coalesce(jobs.c.submitted_by, ""),
    jobs.c.experiment_key,
    jobs.c.ended_at - jobs.c.started_at,
)
_over = (jobs.c.started_at.is_not(None), jobs.c.ended_at.is_not(None), jobs.c.exit_code.is_not(None))
_of_cluster = (
    select(*_columns)
    .where(jobs.c.cluster_uid == bindparam("cluster_uid"), jobs.c.execution == "succeeded", *_over)
    .order_by(jobs.c.id.desc())
    .limit(bindparam("limit"))
)
_of_experiment = (
    select(*_columns)
    .where(jobs.c.experiment_key == bindparam("experiment_key"), *_over)
    .order_by(jobs.c.id.desc())
    .limit(bindparam("limit"))
)


@dataclass(frozen=True, slots=True)
class JobRun:
    """One job of the past. ``runtime`` in milliseconds."""

    user: str
    experiment_key: str
    runtime: int


def past_runs(tx: Connection, cluster_uid: str, experiments: Collection[str], limit: int) -> list[JobRun]:
    """The last jobs that ended by themselves: ``limit`` of each experiment, and as many of the cluster."""
    found = {row[0]: row for row in tx.execute(_of_cluster, {"cluster_uid": cluster_uid, "limit": limit})}
    for key in experiments:
        found |= {row[0]: row for row in tx.execute(_of_experiment, {"experiment_key": key, "limit": limit})}
    return [JobRun(user, experiment, max(0, runtime)) for _, user, experiment, runtime in found.values()]
