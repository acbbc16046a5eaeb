"""What is simulated: jobs with their true runtimes, clusters, faults; and what became of each job.

Times are Unix milliseconds (or milliseconds since any other moment), durations milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from trainshed.scheduling.policy import Policy
from trainshed.scheduling.snapshot import Arrival, Gang

MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True)
class Work:
    """A job as nature knows it."""

    gang: Gang
    #: When it is submitted.
    at: int
    #: How long it would run undisturbed. Its wall-clock limit, ``gang.limit``, ends it if that comes first.
    runtime: int
    cluster: str = ""
    #: How often it saves its progress; 0 for at all times, None for never: it begins anew after each interruption.
    checkpoint: int | None = None


@dataclass(frozen=True, slots=True)
class Site:
    """A cluster: what it has, how it scales and how its queue is served."""

    #: Its scale settings, as in a cluster's properties: ``manual`` or ``autoScale``.
    scale: Mapping[str, Any]
    policy: Policy = field(default_factory=Policy)
    #: Nodes that are ready at first, those of gangs that run then included.
    ready: int = 0
    #: Nodes that are on their way at first.
    arriving: tuple[Arrival, ...] = ()
    #: How long a node that is asked for takes until it is ready.
    boot: int = 5 * MINUTE_MS
    #: The most nodes that can be had; None for what ``scale`` allows.
    most: int | None = None

    @classmethod
    def fixed(cls, nodes: int, policy: Policy | None = None) -> Self:
        """So many nodes, at all times."""
        return cls({"manual": {"targetNodeCount": nodes}}, policy or Policy(), ready=nodes)

    @property
    def automatic(self) -> bool:
        """Whether it scales by itself."""
        return self.scale.get("autoScale") is not None

    @property
    def largest(self) -> int:
        """The most nodes that it may have."""
        if self.automatic:
            allowed = int(self.scale["autoScale"]["maximumNodeCount"])
        else:
            allowed = int((self.scale.get("manual") or {}).get("targetNodeCount", 0))
        return allowed if self.most is None else min(allowed, self.most)


@dataclass(frozen=True, slots=True)
class Faults:
    """Nodes fail at random, each with an exponentially distributed time to its next failure."""

    #: Mean time between failures of one node.
    mtbf: float
    #: How long a failed node is away.
    repair: int = 10 * MINUTE_MS
    #: A job that lost so many attempts has failed.
    most_losses: int = 20


class Ending(StrEnum):
    """How a simulated job ended."""

    SUCCEEDED = "succeeded"
    #: Its wall-clock limit ended it.
    TIME_LIMIT = "time-limit"
    #: Its nodes failed too often.
    LOST = "lost"
    #: It is wider than its cluster can become.
    TOO_WIDE = "too-wide"


@dataclass(slots=True)
class Course:
    """What became of one job."""

    work: Work
    #: When it started first, when it started last, and when it was over.
    started: int | None = None
    restarted: int | None = None
    ended: int | None = None
    ending: Ending | None = None
    attempts: int = 0
    #: Attempts that ended because a higher priority took the nodes, and because a node failed.
    preempted: int = 0
    lost: int = 0
    backfilled: bool = False
    #: When it was to start at the latest, as its first reservation said.
    promised: int | None = None
    #: How much of its runtime is done for good.
    done: int = 0
    #: Node-milliseconds that attempts used in vain.
    wasted: int = 0
