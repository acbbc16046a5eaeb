"""When a waiting job starts, as a range: the queue ahead is simulated with the scheduler itself, many times over.

How long jobs run is not known, so each simulation draws it from what similar jobs took. Of n simulations that draw
rightly, the truth lies between the first and the last start in (n - 1) of (n + 1) cases, whatever the distribution.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from trainshed.scheduling.ledger import Ledger
from trainshed.scheduling.limits import NO_LIMITS, Limits
from trainshed.scheduling.simulation import Simulation
from trainshed.scheduling.snapshot import NEVER, Gang, Owner, RunningGang
from trainshed.scheduling.workload import Site, Work

#: Simulations for one estimate: the range holds in 31 of 33 cases. Fewer for long queues, and not below the least.
SAMPLES = 32
LEAST_SAMPLES = 19
#: Jobs that all simulations of one estimate go through together, at most, unless the least number of them needs more.
WORK = 8_000
#: By how many hundredths of the time until then the range is made wider at its ends.
EARLIER = 5
LATER = 10
#: Runs of the past below which a larger circle is asked.
FEW = 5


@dataclass(frozen=True, slots=True)
class Estimate:
    """Between when and when a job starts (Unix ms), if nothing more urgent is submitted."""

    earliest: int
    #: None when it may never start as things stand.
    latest: int | None


@dataclass(frozen=True, slots=True)
class PastRun:
    """How long a job of the past ran, in milliseconds."""

    owner: Owner
    runtime: int


class Runtimes:
    """What jobs took, drawn from those of the same experiment, else of the same user, else from all."""

    def __init__(self, past: Iterable[PastRun] = ()) -> None:
        self._all: list[int] = []
        self._of_user: dict[str, list[int]] = {}
        self._of_experiment: dict[str, list[int]] = {}
        for run in past:
            self._all.append(run.runtime)
            self._of_user.setdefault(run.owner.user, []).append(run.runtime)
            self._of_experiment.setdefault(run.owner.experiment, []).append(run.runtime)

    def draw(self, random: Random, owner: Owner, limit: int, elapsed: int = 0) -> int | None:
        """How long a job runs altogether that has run for ``elapsed``; None when nobody can say.

        Without similar jobs in the past anything up to the limit is as likely.
        """
        known = self._similar(owner)
        longer = [runtime for runtime in known if runtime > elapsed]
        if longer:
            return min(limit, random.choice(longer))
        if known:
            return min(limit, elapsed + random.choice(known))
        return None if limit >= NEVER else random.randint(min(elapsed, limit), limit)

    def _similar(self, owner: Owner) -> Sequence[int]:
        for found in (self._of_experiment.get(owner.experiment, ()), self._of_user.get(owner.user, ())):
            if len(found) >= FEW:
                return found
        return self._all if len(self._all) >= FEW else ()


def estimate(
    site: Site,
    queue: Sequence[Gang],
    running: Sequence[RunningGang],
    jobs: Collection[int],
    runtimes: Runtimes,
    *,
    now: int,
    ledger: Ledger | None = None,
    limits: Limits = NO_LIMITS,
    seed: int = 0,
) -> Mapping[int, Estimate]:
    """Estimates for those of ``jobs`` that are in the queue.

    ``site.ready`` counts the nodes of running gangs too; ``ledger`` holds running gangs as well as the past, and is
    left as it was. The same arguments give the same estimates.
    """
    wanted = set(jobs) & {gang.job_id for gang in queue}
    if not wanted:
        return {}
    samples = max(LEAST_SAMPLES, min(SAMPLES, WORK // (len(queue) + len(running) + 1)))
    starts: dict[int, list[int | None]] = {job: [] for job in wanted}
    for number in range(samples):
        one = _play(site, queue, running, wanted, runtimes, now, ledger, limits, Random(f"{seed} {number}"))
        for job, start in one.items():
            starts[job].append(start)
    return {job: found for job, told in starts.items() if (found := _range(told, now)) is not None}


def _play(
    site: Site,
    queue: Sequence[Gang],
    running: Sequence[RunningGang],
    wanted: set[int],
    runtimes: Runtimes,
    now: int,
    ledger: Ledger | None,
    limits: Limits,
    random: Random,
) -> dict[int, int | None]:
    """One course that things may take: when each of the jobs starts, None if it doesn't."""
    past = None
    if ledger is not None:
        past = ledger.copy()
        for gang in running:
            past.take_back(gang.owner, gang.node_count, _limit_of(gang), gang.started_at)
    simulation = Simulation({"": site}, now=now, ledger=past, limits=limits)
    for gang in running:
        elapsed = max(0, now - gang.started_at)
        if gang.stopping:
            remaining = max(0, gang.ends_by - now)
        else:
            total = runtimes.draw(random, gang.owner, _limit_of(gang), elapsed)
            remaining = NEVER if total is None else max(0, total - elapsed)
        simulation.begin(gang, remaining)
    for waiting in queue:
        total = runtimes.draw(random, waiting.owner, waiting.limit)
        simulation.submit(Work(waiting, now, NEVER if total is None else total))
    simulation.run(until_started=wanted)
    return {job: simulation.courses[job].started for job in wanted}


def _limit_of(gang: RunningGang) -> int:
    return NEVER if gang.ends_by >= NEVER else max(0, gang.ends_by - gang.started_at)


def _range(starts: Sequence[int | None], now: int) -> Estimate | None:
    known = [start for start in starts if start is not None and start < NEVER]
    if not known:
        return None
    earliest, latest = min(known) - now, max(known) - now
    # What no simulation knows of: nodes that take their time, jobs unlike those of the past.
    wider = now + latest + -(-latest * LATER // 100)
    return Estimate(now + earliest * (100 - EARLIER) // 100, wider if len(known) == len(starts) else None)
