"""How many processes run on which host (behaviour 8: processes are spread over the nodes in equal counts)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainshed.toolkits.launch import PlanError


@dataclass(frozen=True, slots=True)
class Place:
    """Where one rank runs: its host, its index there, and how many share the host."""

    rank: int
    host: int
    local_rank: int
    local_size: int


def spread(count: int, hosts: int) -> tuple[int, ...]:
    """Processes of each host: equal counts; what is left over goes to the first hosts, one each."""
    if count < 1 or hosts < 1:
        raise PlanError(f"cannot spread {count} processes over {hosts} hosts; both must be at least 1")
    each, left = divmod(count, hosts)
    return tuple(each + (1 if host < left else 0) for host in range(hosts))


def places(slots: tuple[int, ...]) -> list[Place]:
    """Every rank's place: consecutive ranks share a host, as MPI launchers fill slots."""
    taken = []
    rank = 0
    for host, size in enumerate(slots):
        for local_rank in range(size):
            taken.append(Place(rank, host, local_rank, size))
            rank += 1
    return taken


def process_count(settings: Mapping[str, Any], hosts: int) -> int:
    """processCount, by default one process a host."""
    count = settings.get("processCount")
    return hosts if count is None else int(count)
