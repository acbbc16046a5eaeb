"""The figures of a played trace: waiting, completion, use, fairness, cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from trainshed.scheduling.policy import HOUR_MS
from trainshed.scheduling.workload import Course, Ending
from trainshed.simulation.playing import Played

#: Runtimes below are taken to be so long in slowdowns, or jobs of a second would drown all others (Feitelson, 2001).
BOUND_MS = 10_000


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and quantiles of one measure."""

    mean: float
    median: float
    p90: float
    p99: float
    longest: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Of any values; zeros of none."""
        ordered = sorted(values)
        if not ordered:
            return cls(0, 0, 0, 0, 0)
        median, p90, p99 = (quantile(ordered, share) for share in (0.5, 0.9, 0.99))
        return cls(fmean(ordered), median, p90, p99, ordered[-1])


def quantile(ordered: Sequence[float], share: float) -> float:
    """Of sorted values, interpolated."""
    place = share * (len(ordered) - 1)
    index = int(place)
    rest = place - index
    return ordered[index] if not rest else ordered[index] * (1 - rest) + ordered[index + 1] * rest


@dataclass(frozen=True, slots=True)
class Figures:
    """Durations in milliseconds, node-hours as such."""

    jobs: int
    endings: Counter[str]
    #: Jobs that a limit of their own, or too small a cluster, never let start.
    never_started: int
    wait: Spread
    #: From submission to end, of jobs that ended by themselves.
    completion: Spread
    slowdown: Spread
    utilisation: float
    makespan: int
    node_hours: float
    used_hours: float
    wasted_hours: float
    attempts: int
    preemptions: int
    lost_attempts: int
    backfilled: int
    #: Jain's index over users' mean waits, and over their mean slowdowns: 1 is even, 1/n is all for one.
    fair_waits: float
    fair_slowdowns: float
    #: Jobs that started later than their first reservation said.
    late: int


def measure(played: Played) -> Figures:
    """All figures of one run."""
    courses = played.courses
    started = [course for course in courses if course.started is not None]
    over = [course for course in started if course.ended is not None]
    waits = [(course, float(_wait(course))) for course in started]
    slowdowns = [(course, slowdown(course)) for course in over]
    return Figures(
        jobs=len(courses),
        endings=Counter(course.ending.value for course in courses if course.ending is not None),
        never_started=len(courses) - len(started),
        wait=Spread.of(wait for _, wait in waits),
        completion=Spread.of(float(_completion(course)) for course in over if course.ending is Ending.SUCCEEDED),
        slowdown=Spread.of(slow for _, slow in slowdowns),
        utilisation=played.busy_ms / played.node_ms if played.node_ms else 0.0,
        makespan=played.makespan,
        node_hours=played.node_ms / HOUR_MS,
        used_hours=played.busy_ms / HOUR_MS,
        wasted_hours=sum(course.wasted for course in courses) / HOUR_MS,
        attempts=sum(course.attempts for course in courses),
        preemptions=sum(course.preempted for course in courses),
        lost_attempts=sum(course.lost for course in courses),
        backfilled=sum(course.backfilled for course in courses),
        fair_waits=_jain_of_users(waits),
        fair_slowdowns=_jain_of_users(slowdowns),
        late=sum(1 for course in started if course.promised is not None and _started(course) > course.promised),
    )


def slowdown(course: Course) -> float:
    """How many times as long as undisturbed it took, at least 1 (bounded slowdown)."""
    return max(1.0, _completion(course) / max(min(course.work.runtime, course.work.gang.limit), BOUND_MS))


def jain(values: Sequence[float]) -> float:
    """Jain's fairness index; 1 of none, or of zeros only."""
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else 1.0


def _jain_of_users(values: Iterable[tuple[Course, float]]) -> float:
    by_user: dict[str, list[float]] = {}
    for course, value in values:
        by_user.setdefault(course.work.gang.owner.user, []).append(value)
    return jain([fmean(of_user) for of_user in by_user.values()])


def _started(course: Course) -> int:
    assert course.started is not None
    return course.started


def _wait(course: Course) -> int:
    return _started(course) - course.work.at


def _completion(course: Course) -> int:
    assert course.ended is not None
    return course.ended - course.work.at
