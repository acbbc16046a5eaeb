"""Every queued job has a reason, and the reason is true as far as the database can tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.simulation import rules
from tests.simulation.invariants import Context
from tests.simulation.queueing import FINAL
from tests.simulation.snapshot import ClusterRow, Job, Snapshot
from trainshed.resources.reasons import Reason, ReasonCode


class Facts:
    """What an independent look at the database says of one queued job."""

    def __init__(self, snapshot: Snapshot, job: Job, context: Context, *, engine_available: bool) -> None:
        self.job = job
        self.now = now = context.settings.clock()
        self._snapshot = snapshot
        self._context = context
        self.engine_available = engine_available
        self.cluster: ClusterRow | None = snapshot.clusters.get(job.cluster_uid)
        self.states = [node.state for node in snapshot.nodes.values() if node.cluster_uid == job.cluster_uid]
        #: Where the engine queues there is always room: what is not held back is handed over in a moment.
        self.queues = context.settings.engines["local"].queues
        self.idle = sum(
            1
            for node in snapshot.nodes.values()
            if node.cluster_uid == job.cluster_uid and node.state == "ready" and node.id not in snapshot.holdings
        )
        #: Jobs that stand in a queue.
        self.queued = [
            other
            for other in snapshot.jobs.values()
            if other.execution == "queued"
            and other.state != "deleting"
            and not other.blocked
            and not other.handed_over
            and (other.not_before is None or other.not_before <= now)
        ]
        # Fair share and soft budgets may put anybody before anybody, within a priority or beyond it.
        moved = "fairShare" in snapshot.rules or any(
            not limit.get("hard", True) for limit in snapshot.rules.get("limits", ())
        )
        self.ahead = sum(
            1
            for other in self.queued
            if other.cluster_uid == job.cluster_uid
            and other.id != job.id
            and (moved or (-other.priority, -other.returned, other.id) < (-job.priority, -job.returned, job.id))
        )

    @property
    def largest(self) -> int:
        """The most nodes that the scale settings allow."""
        return self.cluster.largest if self.cluster is not None else 0

    @property
    def depends(self) -> bool:
        """Whether a job that this one waits for has not come to what it should."""
        waits_for = self._context.accepted[self.job.uid].waits_for
        return any(not self._context.past.met(on, condition) for on, condition in waits_for)

    @property
    def in_line(self) -> bool:
        """Whether as many of its array as it lets run have their turn."""
        array = self._context.accepted[self.job.uid].array
        if array is None or array.limit is None:
            return False
        members = [other for other in self._snapshot.jobs.values() if other.array_id == self.job.array_id]
        return sum(1 for other in members if not other.waits_turn and other.execution not in FINAL) >= array.limit

    @property
    def limited(self) -> bool:
        """Whether it would be beyond a limit if those started that may start before it."""
        holders = [self._snapshot.jobs[each.job_id] for each in self._snapshot.attempts.values() if each.live]
        others = [*holders, *(other for other in self.queued if other.id != self.job.id)]
        for limit in rules.of_measure(self._snapshot.rules, "nodes", "runningJobs"):
            whose = rules.subject_of(limit, self.job)
            if whose is not None and rules.in_use(limit, whose, [*others, self.job]) > limit["amount"]:
                return True
        return False

    @property
    def budgeted(self) -> bool:
        """Whether a hard budget holds for it."""
        budgets = rules.of_measure(self._snapshot.rules, rules.BUDGET)
        return any(rules.subject_of(limit, self.job) is not None for limit in budgets)


#: Code of a reason: what must be so for it to be true. A code that is not here needs only its words.
_TRUE_IF: Mapping[ReasonCode, Callable[[Facts], bool]] = {
    ReasonCode.CLUSTER_NOT_FOUND: lambda facts: facts.cluster is None,
    ReasonCode.CLUSTER_BEING_DELETED: lambda facts: facts.cluster is not None and facts.cluster.state == "deleting",
    ReasonCode.ENGINE_UNAVAILABLE: lambda facts: not facts.engine_available,
    ReasonCode.WAITING_FOR_RETRY: lambda facts: facts.job.not_before is not None and facts.job.not_before > facts.now,
    ReasonCode.CLUSTER_EMPTY: lambda facts: facts.largest == 0,
    ReasonCode.CLUSTER_TOO_SMALL: lambda facts: facts.job.node_count > facts.largest,
    ReasonCode.NODES_UNUSABLE: lambda facts: "unusable" in facts.states,
    ReasonCode.WAITING_BEHIND_JOBS: lambda facts: facts.ahead > 0,
    ReasonCode.WAITING_FOR_SCHEDULER: lambda facts: facts.queues or facts.idle >= facts.job.node_count,
    ReasonCode.WAITING_FOR_NODES: lambda facts: facts.idle < facts.job.node_count,
    ReasonCode.WAITING_FOR_DEPENDENCIES: lambda facts: facts.depends,
    ReasonCode.WAITING_FOR_ARRAY: lambda facts: facts.in_line,
    ReasonCode.LIMIT_REACHED: lambda facts: facts.limited,
    ReasonCode.BUDGET_SPENT: lambda facts: facts.budgeted,
}

#: Jobs may wait for these for ever: somebody has to do something.
LASTING = frozenset(
    {
        ReasonCode.CLUSTER_NOT_FOUND,
        ReasonCode.CLUSTER_EMPTY,
        ReasonCode.CLUSTER_TOO_SMALL,
        # They wait for one of these, or for more than a limit allows anybody.
        ReasonCode.WAITING_FOR_DEPENDENCIES,
        ReasonCode.WAITING_FOR_ARRAY,
        ReasonCode.LIMIT_REACHED,
    }
)


def wrong(reason: Reason, facts: Facts) -> str | None:
    """What is wrong with the reason, None if nothing is."""
    if not reason.text.endswith((".", "}")) and facts.cluster is not None and facts.cluster.name not in reason.text:
        return f"job {facts.job.name} is told no whole sentence: {reason.text!r}"
    if facts.job.handed_over:
        return None  # The engine says why, in its own words.
    true = _TRUE_IF.get(reason.code)
    if true is not None and not true(facts):
        return f"job {facts.job.name} is told {reason.code.value}, which is not so: {reason.text}"
    return None
