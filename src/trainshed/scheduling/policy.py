"""How a cluster's queue is served: what its owner may choose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class FairShare:
    """Within a priority, who used less goes first. Usage is forgotten by half in each half-life."""

    half_life: int = 7 * 24 * HOUR_MS
    users: bool = True
    experiments: bool = True
    #: By user: who has 2 may use twice as much as one with 1 before being behind. Absent: 1.
    weights: Mapping[str, float] = field(default_factory=dict)

    @property
    def active(self) -> bool:
        """Whether it tells anybody apart."""
        return self.users or self.experiments


#: First come, first served within a priority.
FIRST_COME = FairShare(users=False, experiments=False)


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of one cluster's queue."""

    #: Gangs that end before the first one that waits could start may pass it.
    backfill: bool = True
    #: How many gangs behind the first one that waits are looked at, at most.
    backfill_depth: int = 500
    #: Whether a gang may take the nodes of running ones with a lower priority.
    preemption: bool = False
    #: Milliseconds between a victim's warning and its end.
    grace: int = 30_000
    fair_share: FairShare = FIRST_COME
