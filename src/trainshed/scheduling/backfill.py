"""EASY backfill: the first gang that must wait gets a reservation; others may pass it if they cannot delay that.

After Lifka, "The ANL/IBM SP Scheduling System" (1995), and Mu'alem and Feitelson (2001): running gangs are taken to
need all of their wall-clock limits.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator

from trainshed.scheduling.snapshot import NEVER, Arrival, RunningGang

#: A moment, and how many nodes are free from then on.
Release = tuple[int, int]


def releases(
    running: Iterable[RunningGang],
    arrivals: Iterable[Arrival],
    now: int,
    vacating: Collection[int] = (),
) -> Iterator[Release]:
    """When nodes become free, the earliest first; read no further than it is asked for.

    ``running`` is in order of ``ends_by``. ``vacating``: ids of gangs that are told to stop now; their nodes are among
    ``arrivals``.
    """
    if vacating:
        running = (gang for gang in running if gang.job_id not in vacating)
    ends = ((max(now, gang.ends_by), gang.node_count) for gang in running)
    return heapq.merge(ends, sorted((max(now, arrival.at), arrival.count) for arrival in arrivals))


def earliest(need: int, free: int, coming: Iterable[Release], now: int) -> tuple[int, int]:
    """When ``need`` nodes are free at once, and how many more are free then; NEVER and 0 when that is not known."""
    at = now
    for moment, count in coming:
        if free >= need and moment > at:
            break
        free += count
        at = moment
    return (at, free - need) if free >= need else (NEVER, 0)
