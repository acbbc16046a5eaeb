"""The scenario with which Kueue measures its scheduler, through the simulator and through the control loop.

Its published form is ``test/performance/scheduler/configs/baseline`` of github.com/kubernetes-sigs/kueue: 5 cohorts of
6 queues with 20 CPUs each, of which a queue may borrow its cohort's; 500 workloads a queue, created at fixed intervals.
Here a CPU is a node and a queue a cluster. As with Kueue's runner nothing is run: workloads take their time.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import pytest
from tests.support.postgres import postgres_server

from benchmarks.control_loop import Submission, TooSlow, run
from trainshed.resources.job import PRIORITIES
from trainshed.scheduling.policy import FIRST_COME, FairShare, Policy
from trainshed.scheduling.simulation import Simulation
from trainshed.scheduling.snapshot import Gang, Owner
from trainshed.scheduling.workload import Site, Work
from trainshed.simulation.trace import DEFAULT_LIMIT

COHORTS, QUEUES_EACH, QUOTA = 5, 6, 20
QUEUES = COHORTS * QUEUES_EACH


@dataclass(frozen=True, slots=True)
class Class:
    """Workloads of one size in each queue; times in seconds."""

    name: str
    count: int
    interval: float
    runtime: float
    priority: int
    nodes: int
    #: Mean time to admission in Kueue's published runs.
    published_wait: float


CLASSES = (
    Class("small", 350, 0.1, 0.2, PRIORITIES["low"], 1, 215.5),
    Class("medium", 100, 0.5, 0.5, PRIORITIES["normal"], 5, 76.8),
    Class("large", 50, 1.2, 1.0, PRIORITIES["high"], 20, 6.7),
)
#: Kueue's mean of 5 runs (rangespec.yaml beside the scenario).
PUBLISHED_SECONDS = 351.1
PUBLISHED_RATE = QUEUES * sum(kind.count for kind in CLASSES) / PUBLISHED_SECONDS
#: What a queue's own nodes need for its work at best.
LEAST_SECONDS = sum(kind.count * kind.nodes * kind.runtime for kind in CLASSES) / QUOTA


def submissions(share: float = 1.0) -> list[Submission]:
    """All jobs, the first first; ``share`` of each class's count."""
    found = [
        Submission((number + 1) * kind.interval, queue, kind.name, kind.priority, kind.nodes, kind.runtime)
        for kind in CLASSES
        for number in range(max(1, round(share * kind.count)))
        for queue in range(QUEUES)
    ]
    return sorted(found, key=lambda job: job.at)


def report(quick: bool = False) -> None:
    """Print the figures; ``quick`` takes a tenth of the jobs."""
    jobs = submissions(0.1 if quick else 1.0)
    published = _listed({kind.name: kind.published_wait for kind in CLASSES})
    print(f"Kueue's scenario: {len(jobs)} jobs of three sizes in {QUEUES} queues of {QUOTA} nodes")
    print(
        f"  published for Kueue: all in {PUBLISHED_SECONDS:.0f} s, {PUBLISHED_RATE:.0f} jobs/s (nodes are busy for "
        f"{LEAST_SECONDS:.0f} s at least); first starts after {published}"
    )
    for label, shared in (("a queue has its own nodes", False), ("a cohort's queues share its nodes", True)):
        begun = time.perf_counter()
        waits, makespan = simulate(jobs, shared=shared)
        seconds = time.perf_counter() - begun
        print(
            f"  simulator, {label}: over after {makespan:.0f} s of its time; {len(jobs) / seconds:.0f} jobs/s "
            f"computed; first starts after {_listed(waits)}"
        )
    for label, paced in (("as they come there", True), ("all at once, for no time", False)):
        _loop("SQLite", _sqlite, label, jobs, paced=paced)
    _loop("PostgreSQL", _postgres, "as they come there", jobs, paced=True)


def _loop(
    name: str,
    database: Callable[[], AbstractContextManager[str | None]],
    label: str,
    jobs: Sequence[Submission],
    *,
    paced: bool,
) -> None:
    with database() as url, tempfile.TemporaryDirectory(prefix="trainshed-bench-") as home:
        if url is None:
            print(f"  control loop on {name}: not measured, it is not installed")
            return
        try:
            outcome = run(url, Path(home), jobs, queues=QUEUES, nodes_each=QUOTA, paced=paced)
        except TooSlow as error:
            print(f"  control loop on {name}, {label}: {error}", flush=True)
            return
    rate = len(jobs) / outcome.seconds
    print(
        f"  control loop on {name}, {label}: {outcome.seconds:.0f} s, {rate:.0f} jobs/s, "
        f"{rate / PUBLISHED_RATE:.1f} times Kueue's; {1000 * outcome.processor / len(jobs):.1f} ms of processor "
        f"a job; first starts after {_listed(outcome.waits)}; "
        f"{outcome.preemptions} made room",
        flush=True,
    )


def simulate(jobs: Sequence[Submission], *, shared: bool) -> tuple[dict[str, float], float]:
    """Play the jobs through the simulator: by kind the mean wait of first starts, and the makespan, in seconds.

    ``shared``: the queues of a cohort share one cluster, by fair share, instead of having one each.
    """
    fair = FairShare(experiments=False) if shared else FIRST_COME
    policy = Policy(preemption=True, grace=0, fair_share=fair)
    width = QUEUES_EACH if shared else 1
    sites = {str(number): Site.fixed(QUOTA * width, policy) for number in range(QUEUES // width)}
    simulation = Simulation(sites)
    works = []
    for number, job in enumerate(jobs, 1):
        gang = Gang(number, job.priority, job.nodes, DEFAULT_LIMIT, Owner("kueue", str(job.queue)))
        works.append(Work(gang, round(1000 * job.at), round(1000 * job.runtime), str(job.queue // width)))
    simulation.submit(*works)
    simulation.run()
    waits: dict[str, list[float]] = {}
    for job, course in zip(jobs, simulation.courses.values(), strict=True):
        assert course.started is not None
        waits.setdefault(job.kind, []).append((course.started - course.work.at) / 1000)
    return {kind: fmean(found) for kind, found in waits.items()}, simulation.now / 1000


def _listed(waits: Mapping[str, float]) -> str:
    return ", ".join(f"{kind} {waits[kind]:.1f} s" for kind in ("large", "medium", "small"))


@contextlib.contextmanager
def _sqlite() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="trainshed-bench-") as folder:
        yield f"sqlite:///{folder}/trainshed.db"


@contextlib.contextmanager
def _postgres() -> Iterator[str | None]:
    try:
        with postgres_server(durable=True) as server:
            yield server.url(server.create())
    except pytest.skip.Exception:
        yield None


if __name__ == "__main__":
    report(quick="--quick" in sys.argv)
