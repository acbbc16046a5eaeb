"""Who starts: order, gangs all or nothing, passing over, draining."""

from hypothesis import given
from hypothesis import strategies as st

from tests.scheduling.values import gang, running, snapshot
from trainshed.scheduling.decide import Decision, Hold, decide
from trainshed.scheduling.ledger import Ledger
from trainshed.scheduling.limits import Limit, Limits, Measure
from trainshed.scheduling.policy import HOUR_MS, FairShare, Policy
from trainshed.scheduling.snapshot import Owner, Scope

STRICT = Policy(backfill=False)


def started(decision: Decision) -> list[int]:
    return [placement.job_id for placement in decision.placements]


def test_first_come_first_served_within_a_priority() -> None:
    assert started(decide(snapshot(gang(2), gang(1), idle=1))) == [1]


def test_high_priority_overtakes() -> None:
    assert started(decide(snapshot(gang(1), gang(2, priority=1000), idle=1))) == [2]


def test_low_priority_waits_for_normal() -> None:
    assert started(decide(snapshot(gang(1, priority=-1000), gang(2), idle=1))) == [2]


def test_one_that_was_preempted_goes_before_those_of_its_priority() -> None:
    queue = gang(1), gang(2, returning=True), gang(3, priority=1000)
    assert started(decide(snapshot(*queue, idle=3))) == [3, 2, 1]


def test_without_backfill_a_wide_gang_holds_back_narrow_ones() -> None:
    assert started(decide(snapshot(gang(1, nodes=3), gang(2, limit=1), idle=2, attainable=4, policy=STRICT))) == []


def test_a_gang_wider_than_the_cluster_can_become_holds_back_nobody() -> None:
    decision = decide(snapshot(gang(1, nodes=5), gang(2), idle=2, attainable=4))
    assert started(decision) == [2]
    assert decision.held[1].hold is Hold.TOO_WIDE


def test_nothing_starts_while_draining() -> None:
    assert decide(snapshot(gang(1), idle=4, draining=True)) == Decision()


def test_nodes_are_used_in_their_order_and_the_first_is_the_master() -> None:
    first, second = decide(snapshot(gang(1, nodes=2), gang(2), idle=3)).placements
    assert first.node_ids == ("n0", "n1")
    assert second.node_ids == ("n2",)


# Fair share.

ANN, BOB = Owner("w", "ann", "w/x"), Owner("w", "bob", "w/y")
FAIR = Policy(fair_share=FairShare())


def test_who_used_less_goes_first() -> None:
    ledger = Ledger()
    ledger.add(ANN, HOUR_MS, at=0)
    queue = gang(1, owner=ANN), gang(2, owner=BOB)
    assert started(decide(snapshot(*queue, idle=1, policy=FAIR), ledger)) == [2]
    assert started(decide(snapshot(*queue, idle=1), ledger)) == [1], "off by default"


def test_priority_weighs_more_than_fair_share() -> None:
    ledger = Ledger()
    ledger.add(ANN, HOUR_MS, at=0)
    queue = gang(1, owner=ANN, priority=1000), gang(2, owner=BOB)
    assert started(decide(snapshot(*queue, idle=1, policy=FAIR), ledger)) == [1]


def test_users_take_turns_when_all_are_equal() -> None:
    queue = [gang(number, owner=ANN) for number in range(1, 5)] + [gang(number, owner=BOB) for number in range(5, 9)]
    assert started(decide(snapshot(*queue, idle=4, policy=FAIR))) == [1, 5, 2, 6]


def test_what_runs_counts_at_once() -> None:
    ledger = Ledger()
    ledger.begin(ANN, nodes=1, limit=HOUR_MS, started_at=0)
    queue = gang(1, owner=ANN), gang(2, owner=BOB)
    assert started(decide(snapshot(*queue, idle=1, policy=FAIR), ledger)) == [2]


def test_usage_is_forgotten_by_half_in_each_half_life() -> None:
    ledger = Ledger(half_life=HOUR_MS)
    ledger.add(ANN, 8 * HOUR_MS, at=0)
    account = ledger.account(Scope.USER, ANN)
    assert account.usage(0, HOUR_MS) == 8
    assert account.usage(3 * HOUR_MS, HOUR_MS) == 1


def test_a_weight_makes_a_share_larger() -> None:
    ledger = Ledger()
    ledger.add(ANN, 3 * HOUR_MS, at=0)
    ledger.add(BOB, 2 * HOUR_MS, at=0)
    policy = Policy(fair_share=FairShare(experiments=False, weights={"ann": 2}))
    assert started(decide(snapshot(gang(1, owner=BOB), gang(2, owner=ANN), idle=1, policy=policy), ledger)) == [2]


def test_experiments_of_one_user_take_turns() -> None:
    other = Owner("w", "ann", "w/z")
    queue = gang(1, owner=ANN), gang(2, owner=ANN), gang(3, owner=other)
    assert started(decide(snapshot(*queue, idle=2, policy=FAIR))) == [1, 3]


def test_a_decision_leaves_the_ledger_as_it_was() -> None:
    ledger = Ledger()
    decide(snapshot(gang(1, nodes=2, owner=ANN), idle=4, policy=FAIR), ledger)
    account = ledger.account(Scope.USER, ANN)
    assert (account.nodes, account.jobs, account.usage(5, HOUR_MS)) == (0, 0, 0)


# Limits.


def test_a_gang_over_a_limit_is_passed_over() -> None:
    limits = Limits([Limit("w", Scope.USER, Measure.NODES, 2)])
    queue = gang(1, nodes=2, owner=ANN), gang(2, owner=ANN), gang(3, owner=BOB)
    decision = decide(snapshot(*queue, idle=4), limits=limits)
    assert started(decision) == [1, 3]
    excess = decision.held[2].excess
    assert excess is not None and (excess.used, excess.never) == (2, False)


def test_a_gang_wider_than_its_limit_can_never_start() -> None:
    limits = Limits([Limit("w", Scope.EXPERIMENT, Measure.NODES, 2, subject="w/x")])
    decision = decide(snapshot(gang(1, nodes=3, owner=ANN), gang(2, nodes=3, owner=BOB), idle=4), limits=limits)
    assert started(decision) == [2]
    assert (excess := decision.held[1].excess) is not None and excess.never


def test_running_jobs_are_limited() -> None:
    ledger = Ledger()
    ledger.begin(ANN, nodes=1, limit=HOUR_MS, started_at=0)
    limits = Limits([Limit("w", Scope.WORKSPACE, Measure.JOBS, 2)])
    assert started(decide(snapshot(gang(1, owner=ANN), gang(2, owner=BOB), idle=4), ledger, limits)) == [1]


def test_a_spent_hard_budget_stops_and_a_soft_one_moves_behind() -> None:
    queue = gang(1, owner=ANN), gang(2, owner=BOB)
    spent = {"ann": 10.0, "bob": 9.0}
    hard = Limits([Limit("w", Scope.USER, Measure.NODE_HOURS, 10, spent=spent)])
    soft = Limits([Limit("w", Scope.USER, Measure.COST, 10, hard=False, spent=spent)])
    assert started(decide(snapshot(*queue, idle=4), limits=hard)) == [2]
    assert started(decide(snapshot(*queue, idle=4), limits=soft)) == [2, 1]
    urgent = gang(1, owner=ANN, priority=1000), gang(2, owner=BOB)
    assert started(decide(snapshot(*urgent, idle=4), limits=soft)) == [2, 1], "behind everyone"


def test_limits_of_other_workspaces_do_not_count() -> None:
    limits = Limits([Limit("other", Scope.WORKSPACE, Measure.JOBS, 0)])
    assert started(decide(snapshot(gang(1, owner=ANN), idle=1), limits=limits)) == [1]


# Properties.

gangs = st.builds(
    gang,
    st.integers(1, 10_000),
    nodes=st.integers(1, 8),
    priority=st.sampled_from([-1000, 0, 1000]),
    limit=st.integers(1, 100),
    owner=st.sampled_from([ANN, BOB]),
    returning=st.booleans(),
)
queues = st.lists(gangs, unique_by=lambda g: g.job_id, max_size=30)
policies = st.builds(
    Policy,
    backfill=st.booleans(),
    preemption=st.booleans(),
    backfill_depth=st.integers(0, 5),
    grace=st.integers(1, 20),
    fair_share=st.sampled_from([FairShare(), FairShare(users=False, experiments=False)]),
)
runs = st.lists(
    st.builds(
        running,
        st.integers(20_000, 30_000),
        nodes=st.integers(1, 5),
        priority=st.sampled_from([-1000, 0, 1000]),
        started_at=st.integers(-50, 0),
        ends_by=st.integers(-5, 90),
        stopping=st.booleans(),
    ),
    unique_by=lambda r: r.job_id,
    max_size=8,
)


@given(queues, st.integers(0, 12), runs, policies)
def test_gangs_are_all_or_nothing_and_nodes_are_used_once(queue, idle, active, policy) -> None:  # type: ignore[no-untyped-def]
    decision = decide(snapshot(*queue, idle=idle, active=active, policy=policy))
    by_id = {g.job_id: g for g in queue}
    used = [node for placement in decision.placements for node in placement.node_ids]
    assert len(used) == len(set(used)) <= idle
    for placement in decision.placements:
        assert len(placement.node_ids) == by_id[placement.job_id].node_count
    assert len(set(started(decision))) == len(decision.placements)
    assert not set(started(decision)) & set(decision.held)


@given(queues, st.integers(0, 12), runs, policies)
def test_only_lower_priorities_are_preempted_and_only_if_that_is_enough(queue, idle, active, policy) -> None:  # type: ignore[no-untyped-def]
    decision = decide(snapshot(*queue, idle=idle, active=active, policy=policy))
    by_id = {g.job_id: g for g in queue}
    victims = {r.job_id: r for r in active}
    if not policy.preemption:
        assert decision.preemptions == ()
    taken = [p.victim for p in decision.preemptions]
    assert len(taken) == len(set(taken))
    for preemption in decision.preemptions:
        victim = victims[preemption.victim]
        assert victim.priority < by_id[preemption.beneficiary].priority
        assert not victim.stopping
    gained = sum(victims[job].node_count for job in taken)
    leaving = sum(r.node_count for r in active if r.stopping)
    needed = sum(by_id[p].node_count for p in {p.beneficiary for p in decision.preemptions})
    left = idle - sum(len(p.node_ids) for p in decision.placements)
    assert needed <= gained + leaving + left


@given(queues, st.integers(0, 12), runs)
def test_strict_order_never_lets_a_gang_pass(queue, idle, active) -> None:  # type: ignore[no-untyped-def]
    cluster = snapshot(*queue, idle=idle, active=active, attainable=100, policy=STRICT)
    decision = decide(cluster)
    order = [g.job_id for g in sorted(queue, key=lambda g: (-g.priority, not g.returning, g.job_id))]
    assert started(decision) == order[: len(decision.placements)]


@given(queues, st.integers(0, 12), runs, st.integers(0, 3), st.integers(1, 3))
def test_limits_hold(queue, idle, active, nodes, jobs) -> None:  # type: ignore[no-untyped-def]
    limits = Limits([Limit("w", Scope.USER, Measure.NODES, nodes), Limit("w", Scope.WORKSPACE, Measure.JOBS, jobs)])
    decision = decide(snapshot(*queue, idle=idle, active=active), limits=limits)
    by_id = {g.job_id: g for g in queue}
    assert len(decision.placements) <= jobs
    for user in (ANN, BOB):
        assert sum(by_id[j].node_count for j in started(decision) if by_id[j].owner == user) <= nodes


@given(queues, st.integers(0, 12), runs)
def test_backfill_starts_at_least_what_strict_order_starts(queue, idle, active) -> None:  # type: ignore[no-untyped-def]
    strict = started(decide(snapshot(*queue, idle=idle, active=active, policy=STRICT)))
    assert started(decide(snapshot(*queue, idle=idle, active=active)))[: len(strict)] == strict
