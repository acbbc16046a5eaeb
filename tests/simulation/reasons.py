"""Every queued job has a reason, and the reason is true as far as the database can tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.simulation.snapshot import ClusterRow, Job, Snapshot
from trainshed.resources.reasons import Reason, ReasonCode


class Facts:
    """What an independent look at the database says of one queued job."""

    def __init__(self, snapshot: Snapshot, job: Job, now: int, *, engine_available: bool, queues: bool = False) -> None:
        self.job = job
        self.now = now
        self.engine_available = engine_available
        self.cluster: ClusterRow | None = snapshot.clusters.get(job.cluster_uid)
        self.states = [node.state for node in snapshot.nodes.values() if node.cluster_uid == job.cluster_uid]
        #: Where the engine queues there is always room: what is not held back is handed over in a moment.
        self.queues = queues
        self.idle = sum(
            1
            for node in snapshot.nodes.values()
            if node.cluster_uid == job.cluster_uid and node.state == "ready" and node.id not in snapshot.holdings
        )
        self.ahead = sum(
            1
            for other in snapshot.jobs.values()
            if other.cluster_uid == job.cluster_uid
            and other.execution == "queued"
            and other.state != "deleting"
            and (other.not_before is None or other.not_before <= now)
            and (-other.priority, -other.returned, other.id) < (-job.priority, -job.returned, job.id)
        )

    @property
    def largest(self) -> int:
        """The most nodes that the scale settings allow."""
        return self.cluster.largest if self.cluster is not None else 0


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
}

#: Jobs may wait for these for ever: somebody has to do something.
LASTING = frozenset({ReasonCode.CLUSTER_NOT_FOUND, ReasonCode.CLUSTER_EMPTY, ReasonCode.CLUSTER_TOO_SMALL})


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
