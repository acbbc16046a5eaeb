"""Which running gangs give their nodes to one of a higher priority."""

from __future__ import annotations

from collections.abc import Iterable

from trainshed.scheduling.snapshot import RunningGang


def victims(running: Iterable[RunningGang], nodes: int, priority: int) -> tuple[RunningGang, ...]:
    """The gangs to stop so that ``nodes`` more nodes become free for a gang of this priority; none if that cannot be.

    As few gangs as can be; among as many, those of the lowest priority, then the youngest, which lose the least. The
    last one is the smallest that is enough, so that no wide gang is stopped for one node.
    """
    pool = [gang for gang in running if gang.preemptible and not gang.stopping and gang.priority < priority]
    if nodes <= 0 or sum(gang.node_count for gang in pool) < nodes:
        return ()
    pool.sort(key=lambda gang: (gang.priority, -gang.started_at, -gang.job_id))
    picks = _fewest(pool, nodes)
    chosen: list[RunningGang] = []
    while picks:
        found = _next(pool, nodes, picks)
        chosen.append(found)
        pool.remove(found)
        nodes -= found.node_count
        picks -= 1
    return tuple(chosen)


def _fewest(pool: list[RunningGang], nodes: int) -> int:
    picks = 0
    for size in sorted((gang.node_count for gang in pool), reverse=True):
        if nodes <= 0:
            break
        nodes -= size
        picks += 1
    return picks


def _next(pool: list[RunningGang], nodes: int, picks: int) -> RunningGang:
    """The first gang in order of preference with which ``picks`` gangs are still enough."""
    if picks == 1:
        enough = [gang for gang in pool if gang.node_count >= nodes]
        return min(enough, key=lambda gang: (gang.priority, gang.node_count, -gang.started_at, -gang.job_id))
    sizes = sorted((gang.node_count for gang in pool), reverse=True)[:picks]
    most = sum(sizes)
    for gang in pool:
        # The most that the other picks can bring: without this gang's own size if it is among the largest.
        others = most - max(gang.node_count, sizes[-1])
        if gang.node_count + others >= nodes:
            return gang
    raise AssertionError("the largest gangs are enough together")
