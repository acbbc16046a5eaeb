"""The queue: which jobs wait for a cluster, and in which order.

A job waits while its execution is queued and nobody asked to delete it. Higher priority first, then those that were
pre-empted, then the order of submission (its id): a job that was queued again keeps its place. One that is to be tried
again later (``not_before``) stands beside the queue until then: it asks for no nodes and holds nobody back. One that
waits for other jobs (``blocked``, see ``dependencies``) is in no queue, and neither is one that an engine which queues
by itself has (``handed_over``). ``jobs`` offers these functions as its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, func, or_, select

from trainshed.store._statements import first
from trainshed.store.job_lookup import get_by_id
from trainshed.store.records import JobRecord, QueuedJob
from trainshed.store.tables import BLOCKED, DELAYED, HANDED_OVER, QUEUED, jobs

_mine = jobs.c.cluster_uid == bindparam("cluster_uid")
_due = or_(jobs.c.not_before.is_(None), jobs.c.not_before <= bindparam("now"))
_later = (DELAYED, jobs.c.not_before > bindparam("now"))
_columns = (
    jobs.c.id,
    jobs.c.key,
    jobs.c.name,
    jobs.c.priority,
    jobs.c.node_count,
    jobs.c.execution_at,
    jobs.c.wall_clock_seconds,
    jobs.c.workspace_key,
    jobs.c.experiment_key,
    jobs.c.submitted_by,
    jobs.c.returned,
)
_head = (
    select(*_columns)
    .where(_mine, QUEUED, _due)
    .order_by(jobs.c.priority.desc(), jobs.c.returned.desc(), jobs.c.id)
    .limit(bindparam("limit"))
)
_page = _head.where(jobs.c.node_count <= bindparam("max_nodes")).offset(bindparam("offset"))
# Whose jobs wait: read from the index alone, those that stand beside the queue included.
_lanes = (
    select(jobs.c.priority, jobs.c.returned, jobs.c.submitted_by, jobs.c.experiment_key)
    .where(_mine, QUEUED)
    .group_by(jobs.c.priority, jobs.c.returned, jobs.c.submitted_by, jobs.c.experiment_key)
)
_in_lane = (
    select(*_columns)
    .where(
        _mine,
        QUEUED,
        _due,
        jobs.c.priority == bindparam("priority"),
        jobs.c.returned == bindparam("returned"),
        jobs.c.submitted_by.is_not_distinct_from(bindparam("submitted_by")),
        jobs.c.experiment_key == bindparam("experiment_key"),
        jobs.c.id > bindparam("after"),
    )
    .order_by(jobs.c.id)
    .limit(bindparam("limit"))
)
# What stands beside the queue is counted by itself and taken off, so that the queue is counted in its own index alone.
# The coalesce makes SQLite choose the index of the little that stands there over one of all that the cluster has.
_theirs = func.coalesce(jobs.c.cluster_uid, "") == bindparam("cluster_uid")
_ahead_later = (
    select(func.count())
    .select_from(jobs)
    .where(_theirs, *_later)
    .where(
        or_(
            jobs.c.priority > bindparam("priority"),
            (jobs.c.priority == bindparam("priority")) & (jobs.c.returned > bindparam("returned")),
            (jobs.c.priority == bindparam("priority"))
            & (jobs.c.returned == bindparam("returned"))
            & (jobs.c.id < bindparam("id")),
        )
    )
)
_delayed = select(jobs.c.id).where(_theirs, *_later).order_by(jobs.c.not_before, jobs.c.id).limit(bindparam("limit"))
_blocked = select(jobs.c.id).where(_mine, BLOCKED).order_by(jobs.c.blocked, jobs.c.id).limit(bindparam("limit"))
_handed_over = select(jobs.c.id).where(_mine, HANDED_OVER).order_by(jobs.c.id).limit(bindparam("limit"))
_next_due = select(func.min(jobs.c.not_before)).where(*_later)
_ranged = select(func.count()).select_from(jobs).where(_mine, QUEUED)
# Three ranges of the index rather than one condition with OR, which would read the cluster's whole queue.
_ahead = select(
    _ranged.where(jobs.c.priority > bindparam("priority")).scalar_subquery()
    + _ranged.where(jobs.c.priority == bindparam("priority"), jobs.c.returned > bindparam("returned")).scalar_subquery()
    + _ranged.where(
        jobs.c.priority == bindparam("priority"),
        jobs.c.returned == bindparam("returned"),
        jobs.c.id < bindparam("id"),
    ).scalar_subquery()
)

# Jumps from one cluster to the next in the index instead of reading every queued job.
_first_cluster = select(func.min(jobs.c.cluster_uid).label("uid")).where(QUEUED)
_walk = _first_cluster.cte("waiting", recursive=True)
_walk = _walk.union_all(
    select(
        select(func.min(jobs.c.cluster_uid)).where(QUEUED, jobs.c.cluster_uid > _walk.c.uid).scalar_subquery()
    ).where(_walk.c.uid.is_not(None))
)
_clusters = select(_walk.c.uid).where(_walk.c.uid.is_not(None))


def walk(tx: Connection, cluster_uid: str, *, now: int, max_nodes: int, first: int) -> Iterator[QueuedJob]:
    """The cluster's queue in its order, without jobs that need more than ``max_nodes``.

    Read as far as it is walked: ``first`` jobs, then ever larger pages. Nothing may be written meanwhile.
    """
    offset, limit = 0, first
    while True:
        parameters = {"cluster_uid": cluster_uid, "limit": limit, "offset": offset, "now": now, "max_nodes": max_nodes}
        rows = tx.execute(_page, parameters).all()
        yield from map(_queued, rows)
        if len(rows) < limit:
            return
        offset += limit
        limit = 2 * offset


def lanes(tx: Connection, cluster_uid: str, *, now: int, first: int) -> list[Iterator[QueuedJob]]:
    """The cluster's queue by priority, user and experiment; each lane in order of age, read as far as it is walked."""
    found = tx.execute(_lanes, {"cluster_uid": cluster_uid}).all()
    return [_walk_lane(tx, cluster_uid, tuple(row), now, first) for row in found]


def _walk_lane(
    tx: Connection, cluster_uid: str, lane: tuple[int, int, str | None, str], now: int, limit: int
) -> Iterator[QueuedJob]:
    priority, returned, submitted_by, experiment_key = lane
    after = 0
    while True:
        parameters = {
            "cluster_uid": cluster_uid,
            "priority": priority,
            "returned": returned,
            "submitted_by": submitted_by,
            "experiment_key": experiment_key,
            "now": now,
            "after": after,
            "limit": limit,
        }
        rows = tx.execute(_in_lane, parameters).all()
        yield from map(_queued, rows)
        if len(rows) < limit:
            return
        after = rows[-1][0]
        limit *= 2


def delayed(tx: Connection, cluster_uid: str, now: int, limit: int) -> list[JobRecord]:
    """The jobs that stand beside the cluster's queue, the one that joins it first first."""
    rows = tx.execute(_delayed, {"cluster_uid": cluster_uid, "now": now, "limit": max(0, limit)}).all()
    return [get_by_id(tx, row[0]) for row in rows]


def handed_over(tx: Connection, cluster_uid: str, limit: int) -> list[JobRecord]:
    """The jobs that wait in the cluster's engine, which orders them itself; the oldest first."""
    rows = tx.execute(_handed_over, {"cluster_uid": cluster_uid, "limit": max(0, limit)}).all()
    return [get_by_id(tx, row[0]) for row in rows]


def blocked(tx: Connection, cluster_uid: str, limit: int) -> list[JobRecord]:
    """The jobs that join the cluster's queue when others have started or ended; the nearest to that first."""
    rows = tx.execute(_blocked, {"cluster_uid": cluster_uid, "limit": max(0, limit)}).all()
    return [get_by_id(tx, row[0]) for row in rows]


def queue_ahead(tx: Connection, job: JobRecord, now: int) -> tuple[int, QueuedJob | None]:
    """How many jobs of its cluster's queue are before ``job``, and the first of them."""
    parameters = {"cluster_uid": job.cluster_uid, "priority": job.priority, "returned": job.returned, "id": job.id}
    ahead = int(tx.execute(_ahead, parameters).scalar_one())
    if ahead:
        ahead -= int(tx.execute(_ahead_later, {**parameters, "now": now}).scalar_one())
    if ahead == 0:
        return 0, None
    row = first(tx, _head, {"cluster_uid": job.cluster_uid, "limit": 1, "now": now})
    return ahead, None if row is None else _queued(row)


def next_due(tx: Connection, now: int) -> int | None:
    """When the first of the jobs that stand beside a queue joins it (Unix ms); None when there is none."""
    found: int | None = tx.execute(_next_due, {"now": now}).scalar()
    return found


def clusters_with_queue(tx: Connection) -> list[str]:
    """uids of the clusters for which a job waits; a cluster may be gone although jobs wait for it."""
    return [row[0] for row in tx.execute(_clusters)]


def _queued(row: Sequence[Any]) -> QueuedJob:
    return QueuedJob(*row)
