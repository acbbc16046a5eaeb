"""The simulation: what becomes of decisions, and that shortcuts change nothing."""

import random
from dataclasses import asdict, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainshed.scheduling.ledger import Ledger
from trainshed.scheduling.limits import Limit, Limits, Measure
from trainshed.scheduling.policy import HOUR_MS, FairShare, Policy
from trainshed.scheduling.simulated_cluster import SimulatedCluster
from trainshed.scheduling.simulation import Simulation
from trainshed.scheduling.snapshot import NEVER, Arrival, Gang, Owner, RunningGang, Scope
from trainshed.scheduling.workload import Ending, Faults, Site, Work

pytestmark = pytest.mark.slow

ANN, BOB = Owner("w", "ann", "w/x"), Owner("w", "bob", "w/y")
TAKE = Policy(preemption=True, grace=5)


def work(
    job_id: int,
    at: int = 0,
    runtime: int = 10,
    nodes: int = 1,
    *,
    limit: int = NEVER,
    priority: int = 0,
    owner: Owner = ANN,
    checkpoint: int | None = None,
) -> Work:
    return Work(Gang(job_id, priority, nodes, limit, owner), at, runtime, checkpoint=checkpoint)


def play(site: Site, *works: Work, limits: Limits | None = None, faults: Faults | None = None) -> Simulation:
    simulation = Simulation({"": site}, limits=limits or Limits(), faults=faults)
    simulation.submit(*works)
    simulation.run()
    return simulation


def starts(simulation: Simulation) -> dict[int, int | None]:
    return {job: course.started for job, course in simulation.courses.items()}


def auto(low: int, high: int, idle: int, boot: int) -> Site:
    scale = {"minimumNodeCount": low, "maximumNodeCount": high, "idleTimeBeforeScaleDown": f"PT{idle}S"}
    return Site({"autoScale": scale}, boot=boot)


def test_gangs_wait_for_nodes_and_run_for_their_runtimes() -> None:
    simulation = play(Site.fixed(2), work(1, nodes=2, runtime=10), work(2, at=3, runtime=5), work(3, at=4, runtime=7))
    assert starts(simulation) == {1: 0, 2: 10, 3: 10}
    assert simulation.now == 17
    assert simulation.clusters[""].busy_ms == 2 * 10 + 5 + 7
    assert simulation.clusters[""].node_ms == 2 * 17
    assert {course.ending for course in simulation.courses.values()} == {Ending.SUCCEEDED}


def test_a_wall_clock_limit_ends_a_job() -> None:
    course = play(Site.fixed(1), work(1, runtime=10, limit=6)).courses[1]
    assert (course.ending, course.ended, course.wasted) == (Ending.TIME_LIMIT, 6, 6)


def test_a_gang_that_is_too_wide_never_starts_and_holds_back_nobody() -> None:
    simulation = play(Site.fixed(2), work(1, nodes=3), work(2))
    assert starts(simulation) == {1: None, 2: 0}
    assert simulation.courses[1].ending is Ending.TOO_WIDE


def test_a_gang_that_its_limit_never_lets_start_does_not_keep_the_simulation_going() -> None:
    limits = Limits([Limit("w", Scope.USER, Measure.NODES, 1)])
    simulation = play(Site.fixed(2), work(1, nodes=2), work(2), limits=limits, faults=Faults(mtbf=1000, repair=10))
    assert simulation.courses[1].ended is None
    assert simulation.courses[2].ending is Ending.SUCCEEDED


def test_a_limit_holds_over_clusters() -> None:
    limits = Limits([Limit("w", Scope.USER, Measure.JOBS, 1)])
    simulation = Simulation({"a": Site.fixed(1), "b": Site.fixed(1)}, limits=limits)
    simulation.submit(replace(work(1), cluster="a"), replace(work(2), cluster="b"))
    simulation.run()
    assert starts(simulation) == {1: 0, 2: 10}


@pytest.mark.parametrize(("checkpoint", "left"), [(None, 100), (0, 55), (20, 60)])
def test_a_victim_has_its_grace_and_goes_on_from_its_last_checkpoint(checkpoint: int | None, left: int) -> None:
    victim = work(1, runtime=100, checkpoint=checkpoint)
    simulation = play(Site.fixed(1, TAKE), victim, work(2, at=40, runtime=10, priority=1000), work(3))
    first, second, third = (simulation.courses[job] for job in (1, 2, 3))
    assert second.started == 45
    assert (first.restarted, first.preempted, first.attempts) == (55, 1, 2)
    assert first.ended == third.started == 55 + left


def test_a_victim_that_ends_within_its_grace_has_succeeded() -> None:
    simulation = play(Site.fixed(1, TAKE), work(1, runtime=43), work(2, at=40, priority=1000))
    assert (simulation.courses[1].attempts, simulation.courses[1].ended) == (1, 43)
    assert simulation.courses[2].started == 43


def test_nodes_come_with_work_and_go_without() -> None:
    seen: list[tuple[int, int]] = []

    def watch(now: int, cluster: SimulatedCluster) -> None:
        if not seen or seen[-1][1] != len(cluster.nodes):
            seen.append((now, len(cluster.nodes)))

    site = auto(0, 4, idle=60, boot=1000)
    simulation = Simulation({"": site}, observer=watch)
    simulation.submit(work(1, at=5, nodes=3, runtime=10_000), work(2, at=200_000, runtime=10))
    simulation.run()
    assert starts(simulation) == {1: 1005, 2: 201_000}
    # The three nodes rest from 11.005 s on.
    assert seen == [(5, 3), (71_005, 0), (200_000, 1)]


def test_a_failed_node_costs_the_attempt_and_is_back_after_its_repair() -> None:
    simulation = play(
        Site.fixed(2), work(1, nodes=2, runtime=1000, checkpoint=0), faults=Faults(mtbf=500, repair=7, most_losses=99)
    )
    course = simulation.courses[1]
    assert course.lost > 0
    assert course.attempts == course.lost + 1
    assert course.ending is Ending.SUCCEEDED
    assert course.ended is not None and course.ended >= 1000 + 7 * course.lost, "it needs both nodes"


def test_a_job_that_loses_too_many_attempts_has_failed() -> None:
    course = play(Site.fixed(1), work(1, runtime=10_000), faults=Faults(mtbf=50, repair=1, most_losses=3)).courses[1]
    assert (course.ending, course.lost, course.attempts) == (Ending.LOST, 3, 3)


def test_it_goes_on_from_the_present() -> None:
    ledger = Ledger()
    simulation = Simulation({"": replace(Site.fixed(4), ready=3, arriving=(Arrival(150, 1),))}, now=100, ledger=ledger)
    simulation.begin(RunningGang(1, 0, 2, started_at=60, ends_by=200, owner=ANN), remaining=70)
    simulation.submit(work(2, at=20, nodes=2), work(3, at=30, nodes=4), work(4, at=50, runtime=9, limit=50, owner=BOB))
    assert ledger.account(Scope.USER, ANN).nodes == 2
    simulation.run(until_started=[2])
    assert simulation.now == 150
    assert starts(simulation) == {1: 60, 2: 150, 3: None, 4: 100}
    simulation.run()
    assert starts(simulation) == {1: 60, 2: 150, 3: 170, 4: 100}
    assert ledger.account(Scope.USER, ANN).nodes == 0


def test_it_stops_at_a_moment() -> None:
    simulation = Simulation({"": Site.fixed(1)})
    simulation.submit(work(1, at=10, runtime=100))
    simulation.run(until=60)
    assert simulation.now == 60
    assert simulation.clusters[""].busy_ms == 50


def test_a_gang_that_is_told_to_stop_already_comes_back() -> None:
    simulation = Simulation({"": Site.fixed(1)}, now=100)
    simulation.begin(RunningGang(1, 0, 1, started_at=60, ends_by=105, stopping=True), remaining=50)
    simulation.run()
    assert (simulation.courses[1].preempted, simulation.courses[1].restarted) == (1, 105)


class Eager(SimulatedCluster):
    """Asks for a decision at every event."""

    def could_matter(self, gang: Gang) -> bool:
        return True


policies = st.builds(
    Policy,
    backfill=st.booleans(),
    backfill_depth=st.integers(0, 4),
    preemption=st.booleans(),
    grace=st.integers(1, 9),
    fair_share=st.sampled_from([FairShare(), FairShare(users=False, experiments=False)]),
)


def random_works(seed: int) -> list[Work]:
    draw = random.Random(seed)
    return [
        work(
            job,
            at=at,
            runtime=(runtime := draw.randint(0, 60)),
            nodes=draw.choice([1, 1, 2, 3, 5]),
            limit=draw.choice([NEVER, runtime, runtime + 9, 30]),
            priority=draw.choice([0, 0, 0, 1000]),
            owner=draw.choice([ANN, BOB]),
            checkpoint=draw.choice([None, 0, 7]),
        )
        for job, at in enumerate(sorted(draw.randint(0, 150) for _ in range(40)), 1)
    ]


# No deadline: each example is a whole simulation, and other processes may be busy.
@settings(deadline=None)
@given(policies, st.integers(0, 2**32), st.booleans(), st.sampled_from([None, 100.0]))
def test_leaving_out_decisions_that_cannot_matter_changes_nothing(
    policy: Policy, seed: int, automatic: bool, mtbf: float | None
) -> None:
    site = replace(auto(0, 5, idle=0, boot=3), policy=policy) if automatic else Site.fixed(5, policy)
    works = random_works(seed)
    outcomes = []
    for kind in (SimulatedCluster, Eager):
        simulation = Simulation({"": site}, faults=mtbf and Faults(mtbf, repair=5), seed=seed)  # type: ignore[arg-type]
        simulation.clusters[""].__class__ = kind
        simulation.submit(*works)
        simulation.run()
        outcomes.append([{**asdict(course), "promised": None} for course in simulation.courses.values()])
    assert outcomes[0] == outcomes[1]


# No deadline: each example is a whole simulation, and other processes may be busy.
@settings(deadline=None)
@given(policies, st.integers(0, 2**32), st.booleans(), st.sampled_from([None, 100.0]))
def test_everything_ends_and_no_node_is_used_twice(
    policy: Policy, seed: int, automatic: bool, mtbf: float | None
) -> None:
    def check(now: int, cluster: SimulatedCluster) -> None:
        held = [node for run in cluster.runs.values() for node in run.nodes]
        assert len(held) == len(set(held)) == cluster.busy
        assert all(cluster.nodes[node].ready for node in held)
        assert all(run.over >= now for run in cluster.runs.values())
        assert cluster.idle >= 0 and cluster.busy + cluster.idle + cluster.preparing == len(cluster.nodes) <= 5
        assert not any(job in cluster.queue for job in cluster.runs)

    site = replace(auto(1, 5, idle=1, boot=3), policy=policy) if automatic else Site.fixed(5, policy)
    faults = mtbf and Faults(mtbf, repair=5)
    simulation = Simulation({"": site}, faults=faults, seed=seed, observer=check)  # type: ignore[arg-type]
    works = random_works(seed)
    simulation.submit(*works)
    simulation.run()
    assert simulation.ended == len(works)
    for course in simulation.courses.values():
        assert course.ending is not None and course.ended is not None
        assert course.attempts == course.preempted + course.lost + (course.ending is not Ending.LOST)
        if course.ending is Ending.SUCCEEDED:
            assert course.restarted is not None
            assert course.ended - course.restarted == course.work.runtime - course.done


@settings(deadline=None)
@given(st.integers(0, 2**32), st.booleans())
def test_no_gang_starts_later_than_it_was_promised(seed: int, backfill: bool) -> None:
    works = [w for w in random_works(seed) if w.gang.priority == 0]
    simulation = play(Site.fixed(5, Policy(backfill=backfill)), *works)
    for course in simulation.courses.values():
        assert course.promised is None or (course.started is not None and course.started <= course.promised)


@settings(deadline=None)
@given(st.integers(0, 2**32))
def test_usage_is_counted_once(seed: int) -> None:
    ledger = Ledger(half_life=10**12)
    simulation = Simulation({"": Site.fixed(5, TAKE)}, ledger=ledger)
    simulation.submit(*random_works(seed))
    simulation.run()
    account = ledger.account(Scope.WORKSPACE, ANN)
    assert (account.nodes, account.jobs) == (0, 0)
    used = account.usage(simulation.now, ledger.half_life) * HOUR_MS
    assert used == pytest.approx(simulation.clusters[""].busy_ms, rel=1e-6)
