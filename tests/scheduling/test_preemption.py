"""Who makes room for a higher priority."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from tests.scheduling.test_decide import started
from tests.scheduling.values import gang, running, snapshot
from trainshed.scheduling.decide import Decision, Hold, decide
from trainshed.scheduling.policy import Policy
from trainshed.scheduling.preemption import victims
from trainshed.scheduling.snapshot import Arrival

TAKE = Policy(preemption=True, grace=30)
HIGH = 1000


def pairs(decision: Decision) -> list[tuple[int, int]]:
    return [(preemption.victim, preemption.beneficiary) for preemption in decision.preemptions]


def test_the_youngest_of_the_lowest_priority_makes_room() -> None:
    active = [
        running(11, started_at=-30),
        running(12, started_at=-10),
        running(13, priority=-1000, started_at=-90),
        running(14, priority=-1000, started_at=-50),
    ]
    decision = decide(snapshot(gang(1, priority=HIGH), idle=0, active=active, policy=TAKE))
    assert pairs(decision) == [(14, 1)]
    assert decision.held[1].hold is Hold.MAKING_ROOM


def test_as_few_as_can_be() -> None:
    active = [running(11, nodes=1), running(12, nodes=1), running(13, nodes=2, started_at=-99)]
    assert pairs(decide(snapshot(gang(1, nodes=2, priority=HIGH), idle=0, active=active, policy=TAKE))) == [(13, 1)]


def test_no_wide_gang_is_stopped_for_one_node() -> None:
    active = [running(11, nodes=8, started_at=-1), running(12, nodes=1, started_at=-99)]
    assert [gang.job_id for gang in victims(active, 1, HIGH)] == [12]


def test_nobody_is_stopped_in_vain() -> None:
    active = [running(11, nodes=1), running(12, nodes=2, priority=HIGH)]
    assert pairs(decide(snapshot(gang(1, nodes=2, priority=HIGH), idle=0, active=active, policy=TAKE))) == []


def test_equals_are_never_stopped() -> None:
    assert pairs(decide(snapshot(gang(1), idle=0, active=[running(11)], policy=TAKE))) == []


def test_off_unless_the_cluster_allows_it() -> None:
    assert pairs(decide(snapshot(gang(1, priority=HIGH), idle=0, active=[running(11)]))) == []


def test_free_nodes_are_used_before_any_are_taken() -> None:
    active = [running(11), running(12)]
    decision = decide(snapshot(gang(1, nodes=2, priority=HIGH), idle=1, active=active, policy=TAKE))
    assert len(decision.preemptions) == 1


def test_nodes_that_are_leaving_already_are_waited_for() -> None:
    active = [running(11, stopping=True, ends_by=20), running(12)]
    assert pairs(decide(snapshot(gang(1, priority=HIGH), idle=0, active=active, policy=TAKE))) == []


def test_nodes_that_come_within_the_grace_are_waited_for() -> None:
    cluster = snapshot(gang(1, priority=HIGH), idle=0, active=[running(12)], arrivals=[Arrival(30, 1)], policy=TAKE)
    assert pairs(decide(cluster)) == []


def test_several_take_at_once() -> None:
    active = [running(11, started_at=1), running(12, started_at=2), running(13, started_at=3)]
    queue = gang(1, priority=HIGH), gang(2, priority=HIGH), gang(3)
    assert pairs(decide(snapshot(*queue, idle=0, active=active, policy=TAKE))) == [(13, 1), (12, 2)]


def test_a_protected_gang_is_left_alone() -> None:
    active = [running(11, preemptible=False)]
    assert pairs(decide(snapshot(gang(1, priority=HIGH), idle=0, active=active, policy=TAKE))) == []


def test_nobody_takes_the_nodes_that_are_being_vacated_for_another() -> None:
    active = [running(11, nodes=2)]
    queue = gang(1, nodes=3, priority=HIGH), gang(2, limit=31), gang(3, limit=30)
    decision = decide(snapshot(*queue, idle=1, active=active, policy=TAKE))
    assert pairs(decision) == [(11, 1)]
    assert started(decision) == [3], "it ends before the victim is gone"


@given(
    st.lists(
        st.builds(
            running,
            st.integers(1, 10_000),
            nodes=st.integers(1, 6),
            priority=st.sampled_from([-1000, 0]),
            started_at=st.integers(0, 99),
        ),
        unique_by=lambda r: r.job_id,
        max_size=7,
    ),
    st.integers(1, 12),
)
def test_no_smaller_set_would_do(active, nodes) -> None:  # type: ignore[no-untyped-def]
    chosen = victims(active, nodes, HIGH)
    enough = [
        size
        for size in range(len(active) + 1)
        for some in itertools.combinations(active, size)
        if sum(r.node_count for r in some) >= nodes
    ]
    assert len(chosen) == (min(enough) if enough else 0)
    assert not chosen or sum(r.node_count for r in chosen) >= nodes
