"""Who is next: scheduling priority, then first come first served, in one cluster (behaviour 5.1)."""

from __future__ import annotations

from trainshed.scheduling.snapshot import ClusterSnapshot, Placement, QueuedGang


def in_order(queue: tuple[QueuedGang, ...]) -> list[QueuedGang]:
    """The queue as it is served."""
    return sorted(queue, key=lambda gang: (-gang.priority, gang.job_id))


def decide(cluster: ClusterSnapshot) -> tuple[Placement, ...]:
    """Which gangs start now, and where.

    Strictly in order: a gang that must wait for nodes holds back those behind it, so that a wide gang is never starved
    by narrow ones. Only a gang that the cluster cannot hold at all (it is wider than the nodes that are usable or on
    their way) is passed over: it would hold back everyone for ever.
    """
    if cluster.draining:
        return ()
    free = list(cluster.idle_nodes)
    placements: list[Placement] = []
    for gang in in_order(cluster.queue):
        if gang.node_count > cluster.attainable_nodes:
            continue
        if gang.node_count > len(free):
            break
        placements.append(Placement(gang.job_id, tuple(free[: gang.node_count])))
        del free[: gang.node_count]
    return tuple(placements)
