"""A decision costs what it looks at, not what waits or runs: counted, so that a busy machine changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest

from tests.scheduling.values import gang, running
from trainshed.scheduling.decide import decide
from trainshed.scheduling.ledger import Ledger
from trainshed.scheduling.limits import NO_LIMITS, Limit, Limits, Measure
from trainshed.scheduling.policy import FairShare, Policy
from trainshed.scheduling.preemption import Candidates
from trainshed.scheduling.snapshot import ClusterSnapshot, Gang, Owner, RunningGang, Scope, lanes_of

NODES, QUEUED, USERS, DEPTH = 1_000, 10_000, 50, 50
CROWDED = Limits([Limit("w", Scope.USER, Measure.NODES, 3)])


class Counted(Iterable[Gang]):
    """A lane that counts how far it is read."""

    def __init__(self, gangs: list[Gang]) -> None:
        self._gangs = gangs
        self.read = 0

    def __iter__(self) -> Iterator[Gang]:
        for found in self._gangs:
            self.read += 1
            yield found


def owner(number: int) -> Owner:
    return Owner("w", f"user{number % USERS}", f"experiment{number % USERS}")


def waiting() -> list[Gang]:
    """The first is wider than what is free; every seventh of the others fits and ends in time."""
    rest = [
        gang(number, nodes=1 if number % 7 == 0 else 60, limit=5 if number % 7 == 0 else 10_000, owner=owner(number))
        for number in range(2, QUEUED)
    ]
    return [gang(1, nodes=500, limit=10_000, owner=owner(1)), *rest]


@pytest.mark.parametrize(
    ("policy", "limits"),
    [
        (Policy(backfill_depth=DEPTH), NO_LIMITS),
        (Policy(backfill_depth=DEPTH, fair_share=FairShare()), NO_LIMITS),
        (Policy(backfill_depth=DEPTH), CROWDED),
        (Policy(backfill=False), NO_LIMITS),
    ],
    ids=["backfill", "fair share", "limits", "strict"],
)
def test_a_long_queue_is_read_no_further_than_it_matters(policy: Policy, limits: Limits) -> None:
    by_owner = policy.fair_share.active or bool(limits)
    lanes = [Counted(lane) for lane in lanes_of(waiting(), by_owner=by_owner)]
    active = [running(10**6 + number, ends_by=1000 + number) for number in range(NODES - 40)]
    idle = [f"node{number}" for number in range(40)]
    snapshot = ClusterSnapshot(lanes, idle, NODES, 0, active, policy=policy, by_owner=by_owner)
    decision = decide(snapshot, Ledger(), limits)
    read = sum(lane.read for lane in lanes)
    # One of each lane is looked at to know which is first; a lane whose owner is at a limit is left.
    started, held = len(decision.placements), len(decision.held)
    assert read <= started + held + 2 * len(lanes) + 1, (read, started, held, len(lanes))
    # A user's wide gangs are passed over until even one node would be too many for the user.
    assert held <= DEPTH + 1 + (8 * USERS if limits else 0)


class Reads(list[RunningGang]):
    """Running gangs, counting how many are looked at."""

    read = 0

    def __iter__(self) -> Iterator[RunningGang]:
        for found in super().__iter__():
            self.read += 1
            yield found


@pytest.mark.parametrize("free", [0, 3])
def test_many_that_take_nodes_do_not_each_look_at_all_that_run(free: int) -> None:
    """Looking at all of them for each made one decision on 10,000 nodes take ten seconds."""
    active = Reads(running(10**6 + number, priority=-1000, ends_by=10**6 + number) for number in range(NODES))
    queue = [gang(number, nodes=5, limit=10_000) for number in range(1, QUEUED)]
    idle = [f"node{number}" for number in range(free)]
    policy = Policy(preemption=True, grace=5)
    decision = decide(ClusterSnapshot(lanes_of(queue), idle, NODES + free, 0, active, policy=policy))
    assert len(decision.preemptions) == NODES - free
    takers = len({preemption.beneficiary for preemption in decision.preemptions})
    # Twice for all of them together, and for each reservation up to the first that stays.
    assert active.read <= 2 * NODES + 8 * takers, (active.read, takers)


def test_each_candidate_is_chosen_once() -> None:
    candidates = Candidates([running(number, nodes=2, priority=-1000) for number in range(5)])
    chosen = [victim.job_id for _ in range(4) for victim in candidates.choose(3, 0)]
    assert len(chosen) == len(set(chosen)) == 4, "two at a time, and the fifth alone is not enough"
