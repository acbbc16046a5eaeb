"""One trace on one scenario, to the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trainshed.scheduling.simulated_cluster import SimulatedCluster
from trainshed.scheduling.simulation import Simulation
from trainshed.scheduling.workload import Course
from trainshed.simulation.scenario import Scenario
from trainshed.simulation.trace import Trace

#: Moments of a timeline, at most twice as many.
MOMENTS = 500
#: Steps between two calls that tell how far it is.
_BEAT = 2000


@dataclass(frozen=True, slots=True)
class Moment:
    """The cluster at one time; the averages are of the time since the moment before."""

    at: int
    nodes: float
    busy: float
    queued: int


@dataclass(frozen=True, slots=True)
class Played:
    """What became of a trace."""

    scenario: Scenario
    courses: Sequence[Course]
    timeline: Sequence[Moment]
    #: From the first submission until the last job was over.
    makespan: int
    #: Node-milliseconds that were there, and that had work.
    node_ms: int
    busy_ms: int


class _Timeline:
    """Samples the cluster as events come; so few that a plot can show them all, whatever the length."""

    def __init__(self, every: int) -> None:
        self._every = max(1, every)
        self._due = 0
        self._last = (0, 0, 0)
        self.moments: list[Moment] = []

    def watch(self, now: int, cluster: SimulatedCluster) -> None:
        if now >= self._due:
            self._due = now + self._every
            self.take(now, cluster)

    def take(self, now: int, cluster: SimulatedCluster) -> None:
        at, node_ms, busy_ms = self._last
        passed = now - at
        nodes = (cluster.node_ms - node_ms) / passed if passed else len(cluster.nodes)
        busy = (cluster.busy_ms - busy_ms) / passed if passed else cluster.busy
        self.moments.append(Moment(now, nodes, busy, len(cluster.queue)))
        self._last = (now, cluster.node_ms, cluster.busy_ms)


def play(trace: Trace, scenario: Scenario, told: Callable[[int], None] = lambda done: None) -> Played:
    """Play the trace. ``told`` is called now and then with the number of jobs that are over."""
    trace = trace.faster(scenario.speed)
    timeline = _Timeline(trace.span // MOMENTS)
    simulation = Simulation(
        {"": scenario.site()}, faults=scenario.failures(), seed=scenario.seed, observer=timeline.watch
    )
    works = trace.works(default_limit=scenario.limit, checkpoint=scenario.checkpoint)
    simulation.submit(*works)
    steps = 0
    while simulation.step():
        steps += 1
        if steps % _BEAT == 0:
            told(simulation.ended)
    cluster = simulation.clusters[""]
    timeline.take(simulation.now, cluster)
    courses = list(simulation.courses.values())
    makespan = max((course.ended for course in courses if course.ended is not None), default=0)
    return Played(scenario, courses, timeline.moments, makespan, cluster.node_ms, cluster.busy_ms)
