"""Short ways to make the scheduler's values."""

from collections.abc import Sequence

from trainshed.scheduling.policy import Policy
from trainshed.scheduling.snapshot import (
    NEVER,
    NOBODY,
    Arrival,
    ClusterSnapshot,
    Gang,
    Owner,
    RunningGang,
    lanes_of,
)


def gang(
    job_id: int,
    nodes: int = 1,
    priority: int = 0,
    limit: int = NEVER,
    owner: Owner = NOBODY,
    *,
    returning: bool = False,
) -> Gang:
    return Gang(job_id, priority, nodes, limit, owner, returning)


def running(
    job_id: int,
    nodes: int = 1,
    priority: int = 0,
    *,
    started_at: int = 0,
    ends_by: int = NEVER,
    owner: Owner = NOBODY,
    stopping: bool = False,
    preemptible: bool = True,
) -> RunningGang:
    return RunningGang(job_id, priority, nodes, started_at, ends_by, owner, stopping, preemptible)


def snapshot(
    *queue: Gang,
    idle: int,
    active: Sequence[RunningGang] = (),
    arrivals: Sequence[Arrival] = (),
    attainable: int | None = None,
    draining: bool = False,
    policy: Policy | None = None,
) -> ClusterSnapshot:
    """A cluster at time 0 whose idle nodes are n0, n1 ..."""
    there = idle + sum(r.node_count for r in active) + sum(a.count for a in arrivals)
    return ClusterSnapshot(
        lanes=lanes_of(queue, by_owner=True),
        idle_nodes=tuple(f"n{number}" for number in range(idle)),
        attainable_nodes=there if attainable is None else attainable,
        running=sorted(active, key=lambda r: r.ends_by),
        arrivals=arrivals,
        draining=draining,
        policy=policy or Policy(),
        by_owner=True,
    )
