"""EASY backfill: the first gang that must wait gets a reservation; others may pass it if they cannot delay that.

After Lifka, "The ANL/IBM SP Scheduling System" (1995), and Mu'alem and Feitelson (2001): running gangs are taken to
need all of their wall-clock limits.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from trainshed.scheduling.snapshot import NEVER, Arrival, RunningGang

#: A moment, and how many nodes are free from then on.
Release = tuple[int, int]


def releases(
    running: Iterable[RunningGang],
    arrivals: Iterable[Arrival],
    now: int,
    vacated: Mapping[int, int] = MappingProxyType({}),
) -> Iterator[Release]:
    """When nodes become free, the earliest first.

    ``running`` is in order of ``ends_by``. ``vacated``: when the gangs that are told to stop now are gone, by job id.
    """
    if vacated:
        running = list(running)
        going = [(vacated[gang.job_id], gang.node_count) for gang in running if gang.job_id in vacated]
        running = (gang for gang in running if gang.job_id not in vacated)
    else:
        going = []
    ends = ((max(now, gang.ends_by), gang.node_count) for gang in running)
    comes = [(max(now, arrival.at), arrival.count) for arrival in arrivals]
    return heapq.merge(ends, sorted(going + comes))


def earliest(need: int, free: int, coming: Iterable[Release], now: int) -> tuple[int, int]:
    """When ``need`` nodes are free at once, and how many more are free then; NEVER and 0 when that is not known."""
    at = now
    for moment, count in coming:
        if free >= need and moment > at:
            break
        free += count
        at = moment
    return (at, free - need) if free >= need else (NEVER, 0)
