"""When a waiting job starts: the range holds."""

from random import Random

import pytest

from tests.scheduling.values import gang, running
from trainshed.scheduling.estimate import Estimate, PastRun, Runtimes, estimate
from trainshed.scheduling.ledger import Ledger
from trainshed.scheduling.limits import Limit, Limits, Measure
from trainshed.scheduling.policy import FairShare, Policy
from trainshed.scheduling.simulation import Simulation
from trainshed.scheduling.snapshot import NEVER, Owner, RunningGang, Scope
from trainshed.scheduling.workload import Site, Work

pytestmark = pytest.mark.slow

MINUTE = 60_000
ANN, BOB = Owner("w", "ann", "w/x"), Owner("w", "bob", "w/y")


def test_one_that_can_start_now_does() -> None:
    assert estimate(Site.fixed(2), [gang(1)], [], [1], Runtimes(), now=5) == {1: Estimate(5, 5)}


def test_past_runs_of_the_experiment_count_before_the_users_and_all() -> None:
    past = [PastRun(ANN, 10)] * 5 + [PastRun(Owner("w", "ann", "w/z"), 20)] * 5 + [PastRun(BOB, 30)] * 5
    runtimes, random = Runtimes(past), Random(1)
    assert runtimes.draw(random, ANN, NEVER) == 10
    assert runtimes.draw(random, Owner("w", "ann", "new"), NEVER) in (10, 20)
    assert runtimes.draw(random, ANN, 7) == 7, "the limit ends it"
    assert runtimes.draw(random, ANN, NEVER, elapsed=12) == 22, "it has run for longer than any"
    assert Runtimes().draw(random, ANN, NEVER) is None


def test_the_one_behind_a_running_job_of_known_length() -> None:
    past = [PastRun(ANN, 100)] * 5
    active = [running(9, started_at=-40, ends_by=1000, owner=ANN)]
    assert estimate(Site.fixed(1), [gang(1, owner=ANN), gang(2, owner=ANN)], active, [1, 2], Runtimes(past), now=0) == {
        1: Estimate(57, 66),
        2: Estimate(152, 176),
    }


def test_behind_one_without_limit_or_history_nobody_can_say() -> None:
    assert estimate(Site.fixed(1), [gang(1)], [running(9)], [1], Runtimes(), now=0) == {}


def test_a_job_that_is_limited_for_ever_has_no_estimate() -> None:
    limits = Limits([Limit("w", Scope.USER, Measure.NODES, 1)])
    queue = [gang(1, nodes=2, limit=5, owner=ANN)]
    assert estimate(Site.fixed(4), queue, [], [1], Runtimes(), now=0, limits=limits) == {}


def test_nodes_that_have_to_be_made_take_their_time() -> None:
    site = Site({"autoScale": {"minimumNodeCount": 0, "maximumNodeCount": 2}}, boot=7)
    assert estimate(site, [gang(1, limit=5)], [], [1], Runtimes(), now=0) == {1: Estimate(6, 8)}


def test_the_ledger_is_left_as_it_was() -> None:
    ledger = Ledger()
    ledger.begin(ANN, 1, 50, 0)
    active = [running(9, started_at=0, ends_by=50, owner=ANN)]
    site = Site.fixed(1, Policy(fair_share=FairShare()))
    estimate(site, [gang(1, limit=5, owner=BOB)], active, [1], Runtimes(), now=10, ledger=ledger)
    account = ledger.account(Scope.USER, ANN)
    assert (account.nodes, account.jobs) == (1, 1)


def test_the_range_holds_in_nine_of_ten_cases() -> None:
    """Queues of all kinds with runtimes from a long-tailed distribution; the estimator knows only past runs."""
    held = told = 0
    for seed in range(50):
        draw = Random(seed)

        def runtime(draw: Random = draw, mean: float = 3) -> int:
            return max(1, int(draw.lognormvariate(mean, 1) * MINUTE))

        owners = [Owner("w", f"user{n}", f"w/{n}") for n in range(3)]
        past = Runtimes(PastRun(draw.choice(owners), runtime()) for _ in range(200))
        total, limit = draw.randint(2, 12), 8 * 60 * MINUTE
        policy = Policy(fair_share=FairShare() if seed % 2 else FairShare(users=False, experiments=False))
        site = Site.fixed(total, policy)
        active: list[RunningGang] = []
        truth: dict[int, int] = {}
        free = total
        while free and draw.random() < 0.9:
            # Whoever looks at a moment meets long jobs more often: in proportion to their length.
            nodes, whole = draw.randint(1, free), runtime(mean=4)
            elapsed = draw.randrange(min(whole, limit))
            one = running(1000 + free, nodes, started_at=-elapsed, ends_by=limit - elapsed, owner=draw.choice(owners))
            active.append(one)
            truth[one.job_id] = whole - elapsed
            free -= nodes
        queue = [
            gang(n, draw.randint(1, total), draw.choice([-1000, 0, 0, 1000]), limit, draw.choice(owners))
            for n in range(1, draw.randint(2, 16))
        ]
        ledger = Ledger()
        for one in active:
            ledger.begin(one.owner, one.node_count, limit, one.started_at)
        jobs = [one.job_id for one in queue]
        estimates = estimate(site, queue, active, jobs, past, now=0, ledger=ledger, seed=seed)
        nature = Simulation({"": site}, now=0)
        for one in active:
            nature.begin(one, truth[one.job_id])
        for waiting in queue:
            nature.submit(Work(waiting, 0, runtime()))
        nature.run()
        for job, found in estimates.items():
            start = nature.courses[job].started
            assert start is not None
            told += 1
            held += found.earliest <= start and (found.latest is None or start <= found.latest)
    assert told > 300
    assert held / told >= 0.9, f"{held} of {told}"
