"""Traces: jobs that were, or might be, submitted, with how long they ran. Times and durations are milliseconds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from trainshed.scheduling.snapshot import NEVER, Gang, Owner
from trainshed.scheduling.workload import Work

DAY_MS = 86_400_000
#: What the service takes for jobs without a wall-clock limit (maxWallClockTime).
DEFAULT_LIMIT = 7 * DAY_MS


class TraceError(Exception):
    """A trace cannot be read: the message says what is wrong, the line where, and ``way_out`` what would be right."""

    def __init__(self, message: str, line: int | None = None, way_out: str = "") -> None:
        super().__init__(message if line is None else f"line {line}: {message}")
        self.line = line
        self.way_out = way_out


@dataclass(frozen=True, slots=True)
class TraceJob:
    """One job of a trace."""

    submitted: int
    runtime: int
    nodes: int
    #: Its wall-clock limit; None without one.
    limit: int | None = None
    user: str = ""
    experiment: str = ""
    #: Higher goes first (high 1000, normal 0, low -1000).
    priority: int = 0
    name: str = ""


@dataclass(frozen=True, slots=True)
class Trace:
    """Jobs in order of submission, and what else a trace says."""

    jobs: tuple[TraceJob, ...]
    #: The nodes of the cluster that it was taken from; None if it does not say.
    nodes: int | None = None
    #: Why entries were left out, and how many.
    skipped: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, jobs: Iterable[TraceJob], nodes: int | None = None, skipped: Mapping[str, int] | None = None) -> Trace:
        """A trace of jobs in any order."""
        return cls(tuple(sorted(jobs, key=lambda job: job.submitted)), nodes, skipped or {})

    @property
    def widest(self) -> int:
        """The most nodes that a job needs."""
        return max((job.nodes for job in self.jobs), default=0)

    @property
    def span(self) -> int:
        """From the first submission to the last."""
        return self.jobs[-1].submitted - self.jobs[0].submitted if self.jobs else 0

    @property
    def work(self) -> int:
        """Node-milliseconds that all jobs need."""
        return sum(job.nodes * job.runtime for job in self.jobs)

    def faster(self, factor: float) -> Trace:
        """The same jobs, submitted so many times as fast."""
        if not self.jobs or factor == 1:
            return self
        first = self.jobs[0].submitted
        return replace(
            self,
            jobs=tuple(replace(job, submitted=first + round((job.submitted - first) / factor)) for job in self.jobs),
        )

    def works(self, *, default_limit: int | None = DEFAULT_LIMIT, checkpoint: int | None = None) -> list[Work]:
        """The jobs as the simulation wants them; time begins with the first submission."""
        if not self.jobs:
            return []
        first = self.jobs[0].submitted
        owners: dict[tuple[str, str], Owner] = {}
        works = []
        for number, job in enumerate(self.jobs, 1):
            key = (job.user, job.experiment)
            owner = owners.get(key)
            if owner is None:
                owner = owners[key] = Owner("trace", job.user, job.experiment)
            limit = job.limit if job.limit is not None else default_limit
            gang = Gang(number, job.priority, job.nodes, NEVER if limit is None else limit, owner)
            works.append(Work(gang, job.submitted - first, job.runtime, checkpoint=checkpoint))
        return works


class Skipped:
    """Counts entries that are left out, by reason."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def add(self, reason: str) -> None:
        """One more."""
        self.counts[reason] = self.counts.get(reason, 0) + 1


def numbered(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Lines that are not empty, with their numbers."""
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if text:
            yield number, text


def nodes_for(units: int, per_node: int) -> int:
    """How many nodes so many processors or GPUs are."""
    return max(1, -(-units // per_node))


def require(columns: Sequence[str] | None, wanted: Sequence[str], line: int) -> None:
    """Raise TraceError for the first wanted column that is not there."""
    have = columns or ()
    for name in wanted:
        if name not in have:
            found = ", ".join(have) or "none"
            way_out = "columns are separated by commas" if len(have) == 1 else ""
            raise TraceError(f"the column {name!r} is missing; there are {found}", line, way_out)
