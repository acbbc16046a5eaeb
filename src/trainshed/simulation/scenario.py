"""A cluster and a policy to play a trace on, and ways to vary them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from trainshed.scheduling.policy import FIRST_COME, FairShare, Policy
from trainshed.scheduling.workload import Faults, Site
from trainshed.simulation.durations import milliseconds
from trainshed.simulation.trace import DEFAULT_LIMIT

MINUTE_MS = 60_000


class ScenarioError(Exception):
    """A variation cannot be understood; the message says what would be right."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is varied between runs of one trace. Durations are milliseconds."""

    nodes: int
    #: The least and the most nodes of a cluster that scales by itself, instead of ``nodes``.
    autoscale: tuple[int, int] | None = None
    boot: int = 5 * MINUTE_MS
    idle: int = 5 * MINUTE_MS
    backfill: bool = True
    depth: int = 500
    preemption: bool = False
    grace: int = 30_000
    #: The half-life of fair share; None for first come, first served.
    fair_share: int | None = None
    #: Mean time between failures of a node; None for no failures.
    faults: int | None = None
    repair: int = 10 * MINUTE_MS
    #: How often jobs save their progress; 0 for always, None for never.
    checkpoint: int | None = None
    #: The wall-clock limit of jobs that have none.
    limit: int | None = DEFAULT_LIMIT
    #: How many times as fast jobs are submitted.
    speed: float = 1.0
    seed: int = 0

    def policy(self) -> Policy:
        """The policy of the cluster's queue."""
        fair = FIRST_COME if self.fair_share is None else FairShare(half_life=self.fair_share)
        return Policy(self.backfill, self.depth, self.preemption, self.grace, fair)

    def site(self) -> Site:
        """The cluster."""
        if self.autoscale is None:
            return Site.fixed(self.nodes, self.policy())
        low, high = self.autoscale
        idle = f"PT{self.idle / 1000:f}S"
        scale = {"minimumNodeCount": low, "maximumNodeCount": high, "idleTimeBeforeScaleDown": idle}
        return Site({"autoScale": scale}, self.policy(), ready=low, boot=self.boot)

    def failures(self) -> Faults | None:
        """How nodes fail."""
        return None if self.faults is None else Faults(self.faults, self.repair)

    def varied(self, changes: str) -> Scenario:
        """With ``nodes=20,backfill=off`` applied. Raises ScenarioError."""
        made = self
        for change in changes.split(","):
            name, equals, value = (part.strip() for part in change.partition("="))
            if not equals or name not in _CHANGES:
                names = ", ".join(_CHANGES)
                raise ScenarioError(
                    f"{change.strip()!r} is not a change such as nodes=20; what can be changed: {names}"
                )
            try:
                made = _CHANGES[name](made, value)
            except ValueError as error:
                raise ScenarioError(f"{name}: {error}") from None
        return made


def extent(text: str) -> tuple[int, int]:
    """``0:64``: the least and the most. Raises ValueError."""
    low, colon, high = text.partition(":")
    if not colon or not low.isdecimal() or not high.isdecimal() or int(low) > int(high) or int(high) < 1:
        raise ValueError(f"{text!r} is not MIN:MAX, for example 0:64")
    return int(low), int(high)


def _switch(text: str) -> bool:
    if text not in ("on", "off"):
        raise ValueError(f"{text!r} is neither on nor off")
    return text == "on"


def _optional(text: str) -> int | None:
    return None if text == "off" else milliseconds(text)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"{text!r} is not a number from 1")
    return int(text)


def _factor(text: str) -> float:
    factor = float(text)
    if not 0 < factor < 1e6:
        raise ValueError(f"{text!r} is not a factor above 0")
    return factor


def positive(text: str) -> int | None:
    """A duration above zero, or ``off``. Raises ValueError."""
    found = _optional(text)
    if found == 0:
        raise ValueError("it must be longer than zero; off for none")
    return found


_CHANGES: dict[str, Callable[[Scenario, str], Scenario]] = {
    "nodes": lambda s, v: replace(s, nodes=_count(v), autoscale=None),
    "autoscale": lambda s, v: replace(s, autoscale=None if v == "off" else extent(v)),
    "boot": lambda s, v: replace(s, boot=milliseconds(v)),
    "idle": lambda s, v: replace(s, idle=milliseconds(v)),
    "backfill": lambda s, v: replace(s, backfill=_switch(v)),
    "depth": lambda s, v: replace(s, depth=_count(v)),
    "preemption": lambda s, v: replace(s, preemption=_switch(v)),
    "grace": lambda s, v: replace(s, grace=milliseconds(v)),
    "fair-share": lambda s, v: replace(s, fair_share=positive(v)),
    "faults": lambda s, v: replace(s, faults=positive(v)),
    "repair": lambda s, v: replace(s, repair=milliseconds(v)),
    "checkpoint": lambda s, v: replace(s, checkpoint=_optional(v)),
    "limit": lambda s, v: replace(s, limit=positive(v)),
    "speed": lambda s, v: replace(s, speed=_factor(v)),
    "seed": lambda s, v: replace(s, seed=int(v)),
}
