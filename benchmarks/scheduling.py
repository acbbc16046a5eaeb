"""The scheduler: one decision on a large cluster, a simulated day, and what backfill is worth."""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from trainshed.scheduling.decide import decide
from trainshed.scheduling.ledger import Ledger
from trainshed.scheduling.limits import NO_LIMITS, Limit, Limits, Measure
from trainshed.scheduling.policy import HOUR_MS, FairShare, Policy
from trainshed.scheduling.snapshot import ClusterSnapshot, Gang, Owner, RunningGang, Scope, lanes_of
from trainshed.scheduling.workload import MINUTE_MS
from trainshed.simulation.generating import Shape, generate
from trainshed.simulation.measuring import Figures, measure
from trainshed.simulation.playing import play
from trainshed.simulation.scenario import Scenario
from trainshed.simulation.swf import read_swf, write_swf

NODES, QUEUED, USERS = 10_000, 100_000, 200
#: What the figures are to stay below, and what backfill is to gain at least.
DECISION_LIMIT_MS, DAY_LIMIT_S, GAIN = 100, 60, 0.3
ROUNDS = 5


def report(quick: bool = False) -> None:
    """Print all figures of this part; ``quick`` leaves out all simulated days but one."""
    print("scheduling")
    _decisions()
    _day(quick)
    _backfill()


# One decision.


def _decisions() -> None:
    queue = waiting(QUEUED)
    busy, none = occupying(NODES - 40), list[RunningGang]()
    fair, taking = Policy(fair_share=FairShare()), Policy(preemption=True)
    crowded = Limits([Limit("w", Scope.USER, Measure.NODES, 60)])
    print(f"  one decision, {NODES} nodes, {QUEUED} queued (limit {DECISION_LIMIT_MS} ms; median of {ROUNDS})")
    for label, policy, limits, running in (
        ("backfill around a wide gang", Policy(), NO_LIMITS, busy),
        (f"the same, fair share of {USERS} users", fair, NO_LIMITS, busy),
        ("the same, users within limits", Policy(), crowded, busy),
        ("the same, pre-emption", taking, NO_LIMITS, busy),
        ("no node idle, pre-emption", taking, NO_LIMITS, occupying(NODES)),
        ("all nodes idle: thousands start", Policy(), NO_LIMITS, none),
        ("the same, fair share", fair, NO_LIMITS, none),
    ):
        by_owner = policy.fair_share.active or bool(limits)
        make_lanes = partial(lanes_of, queue, by_owner=by_owner)
        idle = [f"node{number:05d}" for number in range(NODES - sum(gang.node_count for gang in running))]
        snapshot = ClusterSnapshot(make_lanes(), idle, NODES, 0, running, policy=policy, by_owner=by_owner)
        ledger = used_by(running)
        deciding, sorting = _median(partial(decide, snapshot, ledger, limits)), _median(make_lanes)
        decision = decide(snapshot, ledger, limits)
        done = f"{len(decision.placements)} start"
        if decision.preemptions:
            done += f", {len(decision.preemptions)} make room"
        print(f"    {label:38} {deciding:7.1f} ms; from a flat queue {deciding + sorting:6.1f} ms; {done}")


def waiting(count: int, seed: int = 1) -> list[Gang]:
    """A queue; its first gang is wider than what is free where most nodes are taken, as the first that waits is."""
    draw = random.Random(seed)
    owners = [Owner("w", f"user{number}", f"experiment{number}") for number in range(USERS)]
    gangs = [Gang(1, 0, 2000, 8 * HOUR_MS, owners[0])]
    for job_id, owner in enumerate(draw.choices(owners, k=count - 1), 2):
        priority, nodes = draw.choice((0, 0, 0, -1000)), draw.choice((1, 1, 2, 4, 8, 16, 64))
        gangs.append(Gang(job_id, priority, nodes, draw.randint(1, 48) * HOUR_MS, owner))
    return gangs


def occupying(nodes: int, seed: int = 2) -> list[RunningGang]:
    """Running gangs of low priority that hold so many nodes together, in order of their ends."""
    draw = random.Random(seed)
    gangs = []
    while nodes > 0:
        size = min(nodes, draw.choice((1, 1, 2, 4, 8)))
        owner = Owner("w", f"user{draw.randrange(USERS)}", "e")
        started, ends_by = -draw.randint(0, 600) * MINUTE_MS, draw.randint(1, 48 * 60) * MINUTE_MS
        gangs.append(RunningGang(10**6 + nodes, -2000, size, started, ends_by, owner))
        nodes -= size
    return sorted(gangs, key=lambda gang: gang.ends_by)


def used_by(running: Sequence[RunningGang]) -> Ledger:
    """What their owners have in use."""
    ledger = Ledger()
    for gang in running:
        ledger.begin(gang.owner, gang.node_count, gang.ends_by - gang.started_at, gang.started_at)
    return ledger


def _median(work: Callable[[], object]) -> float:
    """Milliseconds of the median round, of processor time, as all times here: nothing in it waits."""
    times = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        work()
        times.append(1000 * (time.process_time() - begun))
    return statistics.median(times)


# A simulated day.


def _day(quick: bool) -> None:
    print(f"  a simulated day on 1000 nodes (limit {DAY_LIMIT_S} s for 100000 jobs)")
    # Fair share weighs every owner anew in each decision: a day of 100000 jobs takes longer than the others by far.
    every = [
        ("backfill", "backfill=on", 100_000),
        ("strict order", "backfill=off", 100_000),
        ("fair share", "fair-share=7d", 5_000),
        ("autoscale", "autoscale=0:1000", 5_000),
    ]
    for label, changes, jobs in every[:1] if quick else every:
        trace = generate(Shape(jobs=jobs, nodes=1000, days=1, load=0.95, users=100), seed=1)
        begun = time.process_time()
        figures = measure(play(trace, Scenario(1000).varied(changes)))
        seconds = time.process_time() - begun
        print(
            f"    {f'{jobs} jobs, {label}':38} {seconds:7.1f} s, {figures.makespan / 1000 / seconds:,.0f} times as "
            f"fast as time itself; used {100 * figures.utilisation:.0f} %, "
            f"mean wait {figures.wait.mean / 60_000:.1f} min",
            flush=True,
        )


# What backfill is worth.


def _backfill() -> None:
    """EASY beside strict order on traces in the Standard Workload Format with the shape of the archive's.

    Known of EASY: waits are cut the more, the busier the machine is, and the reserved job is not delayed (Lifka, 1995;
    Mu'alem and Feitelson, 2001). On eleven years of NASA's machines strict order used 40 to 60 % of the nodes, and
    backfill 15 points more (Jones and Nitzberg, 1999).
    """
    print("  EASY backfill beside strict order: 5000 jobs in the Standard Workload Format on 128 nodes, by load")
    for load in (0.5, 0.6, 0.7, 0.8):
        compared = compare(5000, 128, load)
        easy, strict = compared.easy.wait.mean / 60_000, compared.strict.wait.mean / 60_000
        print(
            f"    load {load}   mean wait {easy:7.1f} min instead of {strict:7.1f} (-{100 * compared.gain:.0f} %, "
            f"aim -{100 * GAIN:.0f} %); {compared.reserved} reservations, {compared.late} jobs later than reserved"
        )
    full = compare(5000, 128, 2.0)
    print(
        f"    overloaded: {100 * full.easy.utilisation:.0f} % of the nodes used instead of "
        f"{100 * full.strict.utilisation:.0f} %; known: about 70 % instead of 40-60 % (Jones and Nitzberg, 1999)"
    )


@dataclass(frozen=True, slots=True)
class Compared:
    """One trace, with backfill and without."""

    easy: Figures
    strict: Figures
    #: With backfill: jobs that had a reservation, and those of them that started later than it said.
    reserved: int
    late: int

    @property
    def gain(self) -> float:
        """By which part backfill shortens the mean wait."""
        return 1 - self.easy.wait.mean / self.strict.wait.mean


def compare(jobs: int, nodes: int, load: float, *, days: float = 5, seed: int = 7) -> Compared:
    """Play a trace of so many jobs both ways."""
    trace = read_swf(write_swf(generate(Shape(jobs=jobs, nodes=nodes, days=days, load=load), seed=seed)))
    easy, strict = play(trace, Scenario(nodes)), play(trace, Scenario(nodes, backfill=False))
    promises = [(course.started, course.promised) for course in easy.courses if course.promised is not None]
    late = sum(started is None or started > promised for started, promised in promises)
    return Compared(measure(easy), measure(strict), len(promises), late)


if __name__ == "__main__":
    report(quick="--quick" in sys.argv)
