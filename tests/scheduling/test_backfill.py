"""EASY backfill: who may pass the first that waits."""

import random

from hypothesis import given
from hypothesis import strategies as st

from tests.scheduling.test_decide import queues, runs, started
from tests.scheduling.values import gang, running, snapshot
from trainshed.scheduling.backfill import earliest
from trainshed.scheduling.decide import Hold, decide
from trainshed.scheduling.policy import Policy
from trainshed.scheduling.snapshot import NEVER, Arrival


def test_a_gang_that_ends_before_the_reservation_passes() -> None:
    # Two of three nodes are free; the wide one starts when the running one has ended, at 10.
    active = [running(9, ends_by=10)]
    decision = decide(snapshot(gang(1, nodes=3, limit=50), gang(2, limit=10), idle=2, active=active))
    assert started(decision) == [2]
    assert decision.placements[0].backfilled
    assert decision.reservation is not None
    assert (decision.reservation.job_id, decision.reservation.at) == (1, 10)
    assert decision.held[1].hold is Hold.RESERVED


def test_a_gang_that_would_delay_the_reservation_does_not() -> None:
    active = [running(9, ends_by=10)]
    decision = decide(snapshot(gang(1, nodes=3, limit=50), gang(2, limit=11), idle=2, active=active))
    assert started(decision) == []
    assert decision.held[2].hold is Hold.WOULD_DELAY


def test_nodes_that_the_reservation_leaves_over_may_be_held_longer() -> None:
    active = [running(9, nodes=2, ends_by=10)]
    queue = gang(1, nodes=3, limit=50), gang(2, limit=1000), gang(3, limit=1000)
    decision = decide(snapshot(*queue, idle=2, active=active))
    assert started(decision) == [2], "four nodes are free at 10, and three are reserved"


def test_a_gang_without_a_limit_never_ends_before_anything() -> None:
    active = [running(9, ends_by=10)]
    assert started(decide(snapshot(gang(1, nodes=3), gang(2, limit=NEVER), idle=2, active=active))) == []


def test_gangs_that_start_now_are_reckoned_with() -> None:
    # 1 starts and holds two of three nodes until 100; 2 is reserved for then; 3 fits before that.
    queue = gang(1, nodes=2, limit=100), gang(2, nodes=3, limit=10), gang(3, limit=100), gang(4, limit=101)
    decision = decide(snapshot(*queue, idle=3))
    assert started(decision) == [1, 3]
    assert decision.reservation is not None and decision.reservation.at == 100


def test_nodes_on_their_way_count_from_when_they_come() -> None:
    queue = gang(1, nodes=3, limit=50), gang(2, limit=20), gang(3, limit=21)
    decision = decide(snapshot(*queue, idle=2, arrivals=[Arrival(20, 1)]))
    assert started(decision) == [2]


def test_a_gang_that_overruns_its_limit_is_taken_to_end_now() -> None:
    active = [running(9, ends_by=-100)]
    decision = decide(snapshot(gang(1, nodes=2, limit=50), gang(2, limit=5), idle=1, active=active))
    assert started(decision) == [], "the first may start at any moment"


def test_only_so_many_are_looked_at() -> None:
    queue = [gang(1, nodes=3), gang(2, nodes=2), gang(3, nodes=2), gang(4, limit=1)]
    active = [running(9, nodes=2, ends_by=10)]
    assert started(decide(snapshot(*queue, idle=1, active=active, policy=Policy(backfill_depth=2)))) == []
    assert started(decide(snapshot(*queue, idle=1, active=active, policy=Policy(backfill_depth=3)))) == [4]


def test_when_so_many_nodes_are_free() -> None:
    assert earliest(2, 2, [], now=5) == (5, 0)
    assert earliest(3, 1, [(7, 1), (9, 2), (9, 1), (11, 4)], now=5) == (9, 2)
    assert earliest(3, 1, [(7, 1)], now=5) == (NEVER, 0)


@given(queues, st.integers(0, 12), runs)
def test_backfilled_gangs_never_delay_the_reservation(queue, idle, active) -> None:  # type: ignore[no-untyped-def]
    """When every running gang uses up its limit, the reserved nodes are free at the reserved moment."""
    decision = decide(snapshot(*queue, idle=idle, active=active, attainable=200))
    reservation = decision.reservation
    if reservation is None or reservation.at == NEVER:
        return
    by_id = {g.job_id: g for g in queue}
    busy = sum(r.node_count for r in active if max(r.ends_by, 0) > reservation.at)
    busy += sum(by_id[j].node_count for j in started(decision) if by_id[j].limit > reservation.at)
    total = idle + sum(r.node_count for r in active)
    assert total - busy >= by_id[reservation.job_id].node_count


@given(st.integers(0, 2**32))
def test_no_gang_starts_later_than_it_was_promised(seed: int) -> None:
    """A whole queue is played to its end: once a gang has a reservation, it starts by then."""
    draw = random.Random(seed)
    total = draw.randint(2, 8)
    waiting = [gang(n, nodes=draw.randint(1, total), limit=draw.randint(1, 50)) for n in range(1, 20)]
    ends: list[tuple[int, int, int]] = []
    promised: dict[int, int] = {}
    now = 0
    while waiting:
        active = [running(job, nodes=nodes, ends_by=end) for end, job, nodes in sorted(ends)]
        free = total - sum(nodes for _, _, nodes in ends)
        moved = [running(r.job_id, nodes=r.node_count, ends_by=r.ends_by - now) for r in active]
        decision = decide(snapshot(*waiting, idle=free, active=moved))
        by_id = {g.job_id: g for g in waiting}
        for placement in decision.placements:
            one = by_id[placement.job_id]
            assert now <= promised.get(one.job_id, now)
            ends.append((now + one.limit, one.job_id, one.node_count))
        waiting = [g for g in waiting if g.job_id not in {p.job_id for p in decision.placements}]
        if decision.reservation is not None:
            at = now + decision.reservation.at
            assert promised.setdefault(decision.reservation.job_id, at) >= at
        # Somebody ends: at the limit, or earlier.
        ends.sort()
        index = draw.randrange(len(ends))
        now = max(now, min(ends[0][0], draw.randint(now, ends[index][0])))
        ends = [e for i, e in enumerate(ends) if e[0] > now and not (i == index and draw.random() < 0.5)]
