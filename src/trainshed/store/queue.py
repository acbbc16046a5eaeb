"""The queue: which jobs wait for a cluster, and in which order.

A job waits while its execution is queued and nobody asked to delete it. Higher priority first, then the order of
submission (its id): a job that was queued again keeps its place. One that is to be tried again later (``not_before``)
stands beside the queue until then: it asks for no nodes and holds nobody back. One that waits for other jobs
(``blocked``, see ``dependencies``) is not in it at all. ``jobs`` offers these functions as its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, func, literal_column, or_, select

from trainshed.store._statements import first
from trainshed.store.job_lookup import get_by_id
from trainshed.store.records import JobRecord, QueuedJob
from trainshed.store.tables import BLOCKED, DELAYED, QUEUED, jobs

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
)
_head = (
    select(*_columns).where(_mine, QUEUED, _due).order_by(jobs.c.priority.desc(), jobs.c.id).limit(bindparam("limit"))
)
_head_within = _head.where(jobs.c.node_count <= bindparam("max_nodes"))
_page = _head_within.offset(bindparam("offset"))
# Whose jobs wait: read from the index alone, those that stand beside the queue included.
_lanes = (
    select(jobs.c.priority, jobs.c.submitted_by, jobs.c.experiment_key)
    .where(_mine, QUEUED)
    .group_by(jobs.c.priority, jobs.c.submitted_by, jobs.c.experiment_key)
)
_in_lane = (
    select(*_columns)
    .where(
        _mine,
        QUEUED,
        _due,
        jobs.c.priority == bindparam("priority"),
        jobs.c.submitted_by.is_not_distinct_from(bindparam("submitted_by")),
        jobs.c.experiment_key == bindparam("experiment_key"),
        jobs.c.id > bindparam("after"),
    )
    .order_by(jobs.c.id)
    .limit(bindparam("limit"))
)
_nodes_wanted = select(func.coalesce(func.sum(jobs.c.node_count), 0)).where(_mine, QUEUED)
# What stands beside the queue is counted by itself and taken off, so that the queue is counted in its own index alone.
# The coalesce makes SQLite choose the index of the little that stands there over one of all that the cluster has.
_theirs = func.coalesce(jobs.c.cluster_uid, "") == bindparam("cluster_uid")
_nodes_later = select(func.coalesce(func.sum(jobs.c.node_count), 0)).where(_theirs, *_later)
_length_later = select(func.count()).select_from(jobs).where(_theirs, *_later)
_ahead_later = _length_later.where(
    or_(
        jobs.c.priority > bindparam("priority"),
        (jobs.c.priority == bindparam("priority")) & (jobs.c.id < bindparam("id")),
    )
)
_delayed = select(jobs.c.id).where(_theirs, *_later).order_by(jobs.c.not_before, jobs.c.id).limit(bindparam("limit"))
_blocked = select(jobs.c.id).where(_mine, BLOCKED).order_by(jobs.c.blocked, jobs.c.id).limit(bindparam("limit"))
_next_due = select(func.min(jobs.c.not_before)).where(*_later)
# The condition on the priority always holds: it makes SQLite choose the queue's index, which holds all that is counted.
_length = select(func.count()).select_from(jobs).where(_mine, QUEUED, jobs.c.priority >= literal_column("-1000000"))
_ranged = select(func.count()).select_from(jobs).where(_mine, QUEUED)
# Two ranges of the index rather than one condition with OR, which would read the cluster's whole queue.
_ahead = select(
    _ranged.where(jobs.c.priority > bindparam("priority")).scalar_subquery()
    + _ranged.where(jobs.c.priority == bindparam("priority"), jobs.c.id < bindparam("id")).scalar_subquery()
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


def queue_head(
    tx: Connection, cluster_uid: str, limit: int, *, now: int, max_nodes: int | None = None
) -> list[QueuedJob]:
    """The first ``limit`` jobs that wait for the cluster; of those that need at most ``max_nodes`` if it is given."""
    parameters = {"cluster_uid": cluster_uid, "limit": limit, "now": now}
    if max_nodes is None:
        return [_queued(row) for row in tx.execute(_head, parameters)]
    parameters["max_nodes"] = max_nodes
    return [_queued(row) for row in tx.execute(_head_within, parameters)]


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
    tx: Connection, cluster_uid: str, lane: tuple[int, str | None, str], now: int, limit: int
) -> Iterator[QueuedJob]:
    priority, submitted_by, experiment_key = lane
    after = 0
    while True:
        parameters = {
            "cluster_uid": cluster_uid,
            "priority": priority,
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
        after = rows[-1].id
        limit *= 2


def delayed(tx: Connection, cluster_uid: str, now: int, limit: int) -> list[JobRecord]:
    """The jobs that stand beside the cluster's queue, the one that joins it first first."""
    rows = tx.execute(_delayed, {"cluster_uid": cluster_uid, "now": now, "limit": max(0, limit)}).all()
    return [get_by_id(tx, row[0]) for row in rows]


def blocked(tx: Connection, cluster_uid: str, limit: int) -> list[JobRecord]:
    """The jobs that join the cluster's queue when others have started or ended; the nearest to that first."""
    rows = tx.execute(_blocked, {"cluster_uid": cluster_uid, "limit": max(0, limit)}).all()
    return [get_by_id(tx, row[0]) for row in rows]


def queued_nodes(tx: Connection, cluster_uid: str, now: int) -> int:
    """The sum of the nodes that the cluster's waiting jobs need."""
    parameters = {"cluster_uid": cluster_uid, "now": now}
    later = int(tx.execute(_nodes_later, parameters).scalar_one())
    return int(tx.execute(_nodes_wanted, {"cluster_uid": cluster_uid}).scalar_one()) - later


def queue_ahead(tx: Connection, job: JobRecord, now: int) -> tuple[int, QueuedJob | None]:
    """How many jobs of its cluster's queue are before ``job``, and the first of them."""
    parameters = {"cluster_uid": job.cluster_uid, "priority": job.priority, "id": job.id}
    ahead = int(tx.execute(_ahead, parameters).scalar_one())
    if ahead:
        ahead -= int(tx.execute(_ahead_later, {**parameters, "now": now}).scalar_one())
    if ahead == 0:
        return 0, None
    row = first(tx, _head, {"cluster_uid": job.cluster_uid, "limit": 1, "now": now})
    return ahead, None if row is None else _queued(row)


def queue_length(tx: Connection, cluster_uid: str) -> int:
    """How many jobs wait for the cluster."""
    return int(tx.execute(_length, {"cluster_uid": cluster_uid}).scalar_one())


def next_due(tx: Connection, now: int) -> int | None:
    """When the first of the jobs that stand beside a queue joins it (Unix ms); None when there is none."""
    found: int | None = tx.execute(_next_due, {"now": now}).scalar()
    return found


def clusters_with_queue(tx: Connection) -> list[str]:
    """uids of the clusters for which a job waits; a cluster may be gone although jobs wait for it."""
    return [row[0] for row in tx.execute(_clusters)]


def _queued(row: Sequence[Any]) -> QueuedJob:
    return QueuedJob(*row)
