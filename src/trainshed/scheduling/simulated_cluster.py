"""One simulated cluster: its nodes, the gangs that run on them and those that wait."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from trainshed.scheduling.scaling import ScalingNode, idle_time_ms, resize, target_for
from trainshed.scheduling.simulated_queue import SimulatedQueue
from trainshed.scheduling.snapshot import Arrival, ClusterSnapshot, Gang, RunningGang
from trainshed.scheduling.workload import Course, Site


@dataclass(slots=True)
class SimulatedNode:
    """One node. ``job`` holds it; it has been without work, or on its way, since ``since``."""

    ordinal: int
    since: int
    ready_at: int
    ready: bool = False
    job: int | None = None


@dataclass(slots=True)
class Run:
    """One attempt that is under way."""

    course: Course
    gang: RunningGang
    nodes: tuple[str, ...]
    #: When it is over if nothing comes between.
    finish: int
    #: Whether it is its limit that ends it then.
    overdue: bool

    @property
    def over(self) -> int:
        """When it leaves its nodes as things stand."""
        return min(self.finish, self.gang.ends_by) if self.gang.stopping else self.finish


class SimulatedCluster:
    """The state of one cluster; what happens to it, and when, is the simulation's."""

    def __init__(self, name: str, site: Site, now: int, *, limited: bool) -> None:
        self.name = name
        self.site = site
        self._limited = limited
        self._by_owner = limited or site.policy.fair_share.active
        self.queue = SimulatedQueue(by_owner=self._by_owner)
        self.runs: dict[int, Run] = {}
        self.nodes: dict[str, SimulatedNode] = {}
        #: Ids of nodes that are ready and without work, the oldest nodes first.
        self._idle: list[str] = []
        #: Nodes on their way, or being repaired.
        self._preparing: dict[str, SimulatedNode] = {}
        #: Running gangs in order of ``ends_by``, and what they are sorted by.
        self._running: list[RunningGang] = []
        self._ends: list[tuple[int, int]] = []
        self._next_ordinal = 0
        self._largest = site.largest
        self._idle_time = idle_time_ms(site.scale["autoScale"]) if site.automatic else 0
        #: When it is to be looked at because a node will have been without work for long; None if that is not due.
        self.wakes: int | None = None
        #: Whether a decision could change something.
        self.dirty = True
        #: Node-milliseconds with work, and altogether, until ``_counted``.
        self.busy_ms = 0
        self.node_ms = 0
        self._counted = now

    @property
    def idle(self) -> int:
        """How many nodes are free."""
        return len(self._idle)

    @property
    def busy(self) -> int:
        """How many nodes have work."""
        return len(self.nodes) - len(self._idle) - len(self._preparing)

    @property
    def preparing(self) -> int:
        """How many nodes are on their way, or being repaired."""
        return len(self._preparing)

    @property
    def attainable(self) -> int:
        """The most nodes that a gang can ever get."""
        return max(len(self.nodes), self._largest)

    def count(self, now: int) -> None:
        """Count the node time that went by. Called before anything changes."""
        passed = now - self._counted
        if passed:
            self.busy_ms += passed * self.busy
            self.node_ms += passed * len(self.nodes)
            self._counted = now

    # Nodes.

    def add_node(self, now: int, ready_at: int) -> str:
        """A node is asked for; it is on its way until ``ready``."""
        node_id = f"node{self._next_ordinal:08d}"
        self.nodes[node_id] = self._preparing[node_id] = SimulatedNode(self._next_ordinal, now, ready_at)
        self._next_ordinal += 1
        return node_id

    def ready(self, node_id: str, now: int) -> None:
        """A node that was on its way can be used."""
        node = self._preparing.pop(node_id)
        node.ready = True
        self._release((node_id,), now)

    def fail(self, node_id: str, now: int, ready_at: int) -> None:
        """A node that has no work (any more) fails, and is away until it is ``ready``."""
        node = self.nodes[node_id]
        node.ready, node.since, node.ready_at = False, now, ready_at
        self._idle.remove(node_id)
        self._preparing[node_id] = node

    def _release(self, node_ids: Sequence[str], now: int) -> None:
        nodes = self.nodes
        for node_id in node_ids:
            node = nodes[node_id]
            node.job, node.since = None, now
        self._idle += node_ids
        # Two sorted runs: the sort merges them.
        self._idle.sort()
        self.dirty = True

    # Scaling.

    def scale(self, now: int) -> int:
        """Let unneeded nodes go. Returns how many are to be added."""
        scale, count = self.site.scale, len(self.nodes)
        working, without = self.busy, count - self.busy
        target = target_for(scale, working, 0, self.queue.nodes, created=True)
        if without and target != target_for(scale, working, without, self.queue.nodes, created=True):
            resting = sum(1 for _ in self._resting(now))
            target = target_for(scale, working, resting, self.queue.nodes, created=True)
        if target >= count:
            return max(0, min(target, self.attainable) - count)
        for gone in resize(scale, self._scaling_nodes(), target).remove:
            self._preparing.pop(gone.node_id, None)
            del self.nodes[gone.node_id]
        self._idle = [node_id for node_id in self._idle if node_id in self.nodes]
        return 0

    def next_rested(self, now: int) -> int | None:
        """When the next node will have been without work for the idle time; None if there is none to come."""
        first = min(self._resting(now), default=None)
        return None if first is None else first + self._idle_time

    def _resting(self, now: int) -> Iterator[int]:
        """Since when those nodes are without work that are so for less than the idle time."""
        rested = now - self._idle_time
        for node_id in self._idle:
            since = self.nodes[node_id].since
            if since > rested:
                yield since
        for node in self._preparing.values():
            if node.since > rested:
                yield node.since

    def _scaling_nodes(self) -> list[ScalingNode]:
        return [
            ScalingNode(
                node_id, node.ordinal, True, node.ready, None if node.job is None else str(node.job), node.since
            )
            for node_id, node in self.nodes.items()
        ]

    # Gangs.

    def could_matter(self, gang: Gang) -> bool:
        """Whether a gang that arrives calls for a decision, when none was due without it.

        Time alone lets no gang start, so what waits now waits on unless the newcomer starts or goes before the others.
        """
        policy, free = self.site.policy, len(self._idle)
        if policy.preemption:
            return True
        if free == 0:
            return False
        if self._by_owner:
            return True
        before = self.queue.level_with(gang.priority)
        if before == 0 and len(self.queue):
            return True
        if gang.node_count > free:
            return False
        return before <= policy.backfill_depth if policy.backfill else before == 0

    def snapshot(self, now: int) -> ClusterSnapshot:
        """What the scheduler is told."""
        arrivals: tuple[Arrival, ...] = ()
        if self._preparing:
            coming = Counter(node.ready_at for node in self._preparing.values())
            arrivals = tuple(Arrival(at, count) for at, count in sorted(coming.items()))
        return ClusterSnapshot(
            lanes=self.queue.lanes(),
            idle_nodes=self._idle,
            attainable_nodes=self.attainable,
            now=now,
            running=self._running,
            arrivals=arrivals,
            policy=self.site.policy,
            by_owner=self._by_owner,
        )

    def hold(self, run: Run) -> None:
        """A gang takes its nodes, which are free."""
        job_id = run.gang.job_id
        if tuple(self._idle[: len(run.nodes)]) == run.nodes:
            del self._idle[: len(run.nodes)]
        else:
            taken = set(run.nodes)
            self._idle = [node_id for node_id in self._idle if node_id not in taken]
        for node_id in run.nodes:
            self.nodes[node_id].job = job_id
        self.runs[job_id] = run
        self._insert(run.gang)

    def leave(self, job_id: int, now: int) -> Run:
        """A gang gives its nodes back."""
        run = self.runs.pop(job_id)
        self._discard(run.gang)
        self._release(run.nodes, now)
        return run

    def replace(self, run: Run, gang: RunningGang) -> None:
        """What the scheduler is told of a running gang changes."""
        self._discard(run.gang)
        run.gang = gang
        self._insert(gang)

    def first_idle(self, count: int) -> tuple[str, ...]:
        """The free nodes that are to be used first."""
        return tuple(self._idle[:count])

    def _insert(self, gang: RunningGang) -> None:
        key = (gang.ends_by, gang.job_id)
        index = bisect_left(self._ends, key)
        self._ends.insert(index, key)
        self._running.insert(index, gang)

    def _discard(self, gang: RunningGang) -> None:
        index = bisect_left(self._ends, (gang.ends_by, gang.job_id))
        del self._ends[index]
        del self._running[index]


def _attempt(node: SimulatedNode) -> str | None:
    return None if node.job is None else str(node.job)
