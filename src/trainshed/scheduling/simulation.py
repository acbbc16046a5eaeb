"""A discrete-event simulation of clusters and their queues, on the scheduler that the service uses.

Nothing in it knows better than the scheduler does: gangs are placed by ``decide``, nodes come and go by ``target_for``
and ``resize``, usage is kept in a ``Ledger``. What the simulation adds is what becomes of the decisions.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from enum import IntEnum
from random import Random

from trainshed.scheduling.decide import decide
from trainshed.scheduling.ledger import Ledger
from trainshed.scheduling.limits import NO_LIMITS, Limits
from trainshed.scheduling.simulated_cluster import Run, SimulatedCluster
from trainshed.scheduling.snapshot import NEVER, Gang, Placement, RunningGang
from trainshed.scheduling.workload import Course, Ending, Faults, Site, Work

#: Called after each moment at which a cluster changed: the time and the cluster.
Observer = Callable[[int, SimulatedCluster], None]


class _Kind(IntEnum):
    """Events; of those at one moment, lower ones happen first."""

    END = 0
    READY = 1
    FAULT = 2
    SUBMIT = 3
    RESTED = 4


#: When, what, to what job or node, on which cluster.
_Event = tuple[int, _Kind, int | str, str]


class Simulation:
    """Clusters and their jobs from ``now`` on.

    ``ledger`` is to hold the usage of the past only: gangs that run are added to it by ``begin``. It is changed. The
    same arguments and calls give the same courses.
    """

    def __init__(
        self,
        sites: Mapping[str, Site],
        *,
        now: int = 0,
        limits: Limits = NO_LIMITS,
        ledger: Ledger | None = None,
        faults: Faults | None = None,
        seed: int = 0,
        observer: Observer | None = None,
    ) -> None:
        self.now = now
        self._limits = limits
        half_lives = [site.policy.fair_share.half_life for site in sites.values() if site.policy.fair_share.active]
        self._ledger = ledger or (Ledger(half_lives[0]) if half_lives else Ledger())
        self._faults = faults
        self._random = Random(seed)
        self._observer = observer
        self._events: list[_Event] = []
        #: Jobs that are to be submitted yet.
        self._coming = 0
        self._ended = 0
        #: By job id, of every job that was submitted or began.
        self.courses: dict[int, Course] = {}
        #: By name.
        self.clusters: dict[str, SimulatedCluster] = {}
        for name, site in sites.items():
            self._open(name, site)

    @property
    def ended(self) -> int:
        """How many jobs are over."""
        return self._ended

    def submit(self, *works: Work) -> None:
        """Have jobs submitted at their times, which must not lie in the past."""
        for work in works:
            self.courses[work.gang.job_id] = Course(work)
            self._push(max(work.at, self.now), _Kind.SUBMIT, work.gang.job_id, work.cluster)
        self._coming += len(works)

    def begin(self, gang: RunningGang, remaining: int, cluster: str = "", returns: Work | None = None) -> None:
        """A gang that runs already, for ``remaining`` more milliseconds unless its limit ends it.

        ``returns``: the job as it is queued again if it is pre-empted or its node fails; otherwise it begins anew.
        """
        place, now = self.clusters[cluster], self.now
        limit = gang.ends_by - gang.started_at if gang.ends_by < NEVER and not gang.stopping else NEVER
        if returns is None:
            waiting = Gang(gang.job_id, gang.priority, gang.node_count, limit, gang.owner)
            returns = Work(waiting, gang.started_at, now - gang.started_at + remaining, cluster)
        gang = replace(gang, ends_by=max(now, gang.ends_by))
        finish = now + remaining if gang.stopping else min(now + remaining, gang.ends_by)
        course = Course(returns, started=gang.started_at, restarted=gang.started_at, attempts=1)
        self.courses[gang.job_id] = course
        nodes = place.first_idle(gang.node_count)
        self._hold(place, Run(course, gang, nodes, finish, overdue=finish < now + remaining))

    def step(self) -> bool:
        """Go on to the next moment at which something happens. False when nothing will any more."""
        if not self._events or self._is_over():
            return False
        now = self.now = self._events[0][0]
        touched: set[str] = set()
        while self._events and self._events[0][0] == now:
            _, kind, subject, name = heapq.heappop(self._events)
            cluster = self.clusters[name]
            cluster.count(now)
            self._happen(cluster, kind, subject)
            touched.add(name)
        # What one cluster frees may be within a limit that holds back another one's gangs.
        for name in self.clusters if self._limits else touched:
            cluster = self.clusters[name]
            cluster.dirty = cluster.dirty or bool(self._limits)
            cluster.count(now)
            self._decide(cluster)
            if cluster.site.automatic:
                self._scale(cluster)
            if self._observer is not None:
                self._observer(now, cluster)
        return True

    def run(self, until: int | None = None, until_started: Collection[int] | None = None) -> None:
        """Go on until nothing happens any more, or until (and with) a moment, or until these jobs have all started."""
        waiting = None if until_started is None else set(until_started)
        while True:
            if waiting is not None:
                waiting = {job for job in waiting if self.courses[job].started is None and not self.courses[job].ended}
                if not waiting:
                    return
            if until is not None and (not self._events or self._events[0][0] > until):
                for cluster in self.clusters.values():
                    cluster.count(until)
                self.now = max(self.now, until)
                return
            if not self.step():
                return

    def _open(self, name: str, site: Site) -> None:
        cluster = self.clusters[name] = SimulatedCluster(name, site, self.now, limited=bool(self._limits))
        for _ in range(site.ready):
            node_id = cluster.add_node(self.now, self.now)
            cluster.ready(node_id, self.now)
            self._expect_fault(cluster, node_id)
        for arrival in site.arriving:
            self._add_nodes(cluster, arrival.count, max(self.now, arrival.at))
        self._scale(cluster)

    def _push(self, at: int, kind: _Kind, subject: int | str, cluster: str) -> None:
        heapq.heappush(self._events, (at, kind, subject, cluster))

    def _is_over(self) -> bool:
        """Whether nothing but failures and repairs would follow."""
        if self._coming:
            return False
        return not any(
            cluster.runs or (len(cluster.queue) and (cluster.dirty or cluster.preparing))
            for cluster in self.clusters.values()
        )

    def _happen(self, cluster: SimulatedCluster, kind: _Kind, subject: int | str) -> None:
        if kind is _Kind.RESTED:
            cluster.wakes = None
        match subject:
            case int() if kind is _Kind.SUBMIT:
                self._arrive(cluster, subject)
            case int():
                run = cluster.runs.get(subject)
                # It was told to stop, or began again, since this was foreseen.
                if run is not None and run.over == self.now:
                    self._end(cluster, run)
            case str() if subject in cluster.nodes:
                node = cluster.nodes[subject]
                if kind is _Kind.READY and not node.ready:
                    cluster.ready(subject, self.now)
                    self._expect_fault(cluster, subject)
                elif kind is _Kind.FAULT and node.ready:
                    self._fail(cluster, subject)

    # Jobs.

    def _arrive(self, cluster: SimulatedCluster, job_id: int) -> None:
        self._coming -= 1
        course = self.courses[job_id]
        gang = course.work.gang
        if gang.node_count > cluster.attainable:
            self._finish(course, Ending.TOO_WIDE)
            return
        cluster.dirty = cluster.dirty or cluster.could_matter(gang)
        cluster.queue.add(gang)

    def _decide(self, cluster: SimulatedCluster) -> None:
        if not cluster.dirty:
            return
        cluster.dirty = False
        if not cluster.queue:
            return
        decision = decide(cluster.snapshot(self.now), self._ledger, self._limits)
        for placement in decision.placements:
            self._start(cluster, placement)
        for preemption in decision.preemptions:
            self._stop(cluster, cluster.runs[preemption.victim])
        if decision.reservation is not None and decision.reservation.at < NEVER:
            course = self.courses[decision.reservation.job_id]
            if course.promised is None:
                course.promised = decision.reservation.at

    def _start(self, cluster: SimulatedCluster, placement: Placement) -> None:
        now, course = self.now, self.courses[placement.job_id]
        gang = cluster.queue.take(placement.job_id)
        course.attempts += 1
        course.backfilled = course.backfilled or placement.backfilled
        course.restarted = now
        if course.started is None:
            course.started = now
        remaining = course.work.runtime - course.done
        ends_by = now + gang.limit if gang.limit < NEVER else NEVER
        running = RunningGang(gang.job_id, gang.priority, gang.node_count, now, ends_by, gang.owner)
        run = Run(course, running, placement.node_ids, min(now + remaining, ends_by), overdue=remaining > gang.limit)
        self._hold(cluster, run)

    def _hold(self, cluster: SimulatedCluster, run: Run) -> None:
        cluster.hold(run)
        gang = run.course.work.gang
        self._ledger.begin(gang.owner, gang.node_count, gang.limit, run.gang.started_at)
        self._push(run.over, _Kind.END, gang.job_id, cluster.name)

    def _stop(self, cluster: SimulatedCluster, run: Run) -> None:
        """Tell a gang to make room; it has the grace to end by itself."""
        grace_ends = min(run.gang.ends_by, self.now + cluster.site.policy.grace)
        cluster.replace(run, replace(run.gang, stopping=True, ends_by=grace_ends))
        self._push(run.over, _Kind.END, run.gang.job_id, cluster.name)

    def _end(self, cluster: SimulatedCluster, run: Run) -> None:
        self._leave(cluster, run)
        if run.finish <= self.now:
            self._finish(run.course, Ending.TIME_LIMIT if run.overdue else Ending.SUCCEEDED)
            if run.overdue:
                run.course.wasted += (self.now - run.gang.started_at) * run.gang.node_count
            return
        run.course.preempted += 1
        self._requeue(cluster, run, returning=True)

    def _leave(self, cluster: SimulatedCluster, run: Run) -> None:
        gang = run.course.work.gang
        cluster.leave(gang.job_id, self.now)
        self._ledger.end(gang.owner, gang.node_count, gang.limit, run.gang.started_at, self.now)

    def _requeue(self, cluster: SimulatedCluster, run: Run, *, returning: bool) -> None:
        course = run.course
        ran = self.now - run.gang.started_at
        every = course.work.checkpoint
        kept = 0 if every is None else ran if every == 0 else ran - ran % every
        course.done += kept
        course.wasted += (ran - kept) * run.gang.node_count
        gang = course.work.gang
        cluster.queue.add(replace(gang, returning=True) if returning else gang)

    def _finish(self, course: Course, ending: Ending) -> None:
        course.ended, course.ending = self.now, ending
        self._ended += 1

    # Nodes.

    def _fail(self, cluster: SimulatedCluster, node_id: str) -> None:
        assert self._faults is not None
        job_id = cluster.nodes[node_id].job
        if job_id is not None:
            run = cluster.runs[job_id]
            self._leave(cluster, run)
            run.course.lost += 1
            if run.course.lost < self._faults.most_losses:
                self._requeue(cluster, run, returning=False)
            else:
                run.course.wasted += (self.now - run.gang.started_at) * run.gang.node_count
                self._finish(run.course, Ending.LOST)
        back = self.now + self._faults.repair
        cluster.fail(node_id, self.now, back)
        self._push(back, _Kind.READY, node_id, cluster.name)

    def _expect_fault(self, cluster: SimulatedCluster, node_id: str) -> None:
        if self._faults is not None:
            at = self.now + 1 + int(self._random.expovariate(1 / self._faults.mtbf))
            self._push(at, _Kind.FAULT, node_id, cluster.name)

    def _add_nodes(self, cluster: SimulatedCluster, count: int, at: int) -> None:
        for _ in range(count):
            self._push(at, _Kind.READY, cluster.add_node(self.now, at), cluster.name)

    def _scale(self, cluster: SimulatedCluster) -> None:
        more = cluster.scale(self.now)
        if more:
            self._add_nodes(cluster, more, self.now + cluster.site.boot)
        if cluster.site.automatic and cluster.wakes is None:
            cluster.wakes = cluster.next_rested(self.now)
            if cluster.wakes is not None:
                self._push(cluster.wakes, _Kind.RESTED, "", cluster.name)
