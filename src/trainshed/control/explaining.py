"""Gathers the facts that the explanation of a queued job rests on, with the scheduler's own decision about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

from sqlalchemy import Connection

from trainshed.control import recovering
from trainshed.control.clusters import plan_size
from trainshed.control.dependencies import why_blocked
from trainshed.control.estimating import estimates
from trainshed.control.fleet import queues, recorded_fleet
from trainshed.control.policies import Policies
from trainshed.control.settings import ControlSettings
from trainshed.control.snapshots import gang_of, handing_snapshot, room_in, snapshot_of, waiting_lanes
from trainshed.resources.lifecycle import NodeState, ProvisioningState
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.scheduling.decide import Held, Hold, decide
from trainshed.scheduling.estimate import Estimate
from trainshed.scheduling.explain import Ahead, WaitingFacts, explain
from trainshed.scheduling.order import Order, Walk
from trainshed.scheduling.scaling import largest_size
from trainshed.scheduling.snapshot import NEVER, Gang, Scope
from trainshed.store import attempts, clusters, jobs, nodes, principals
from trainshed.store.errors import or_none
from trainshed.store.records import ClusterRecord, JobRecord, NodeRecord

#: Most jobs that are counted to say how many are ahead where fair share orders them.
_COUNTED = 10_000

#: Who waits for these waits for a person, or for what a simulation of the queue does not know.
_NOBODY_KNOWS_WHEN = frozenset(
    {
        ReasonCode.SERVICE_DRAINING,
        ReasonCode.NO_ACTIVE_CONTROLLER,
        ReasonCode.ENGINE_UNAVAILABLE,
        ReasonCode.CLUSTER_BEING_DELETED,
        ReasonCode.CLUSTER_DRAINING,
    }
)


def why_waiting(tx: Connection, job: JobRecord, settings: ControlSettings, *, engine_available: bool) -> Reason:
    """Why this queued job waits, and what would change it."""
    cluster = or_none(clusters.get_by_uid, tx, job.cluster_uid)
    if cluster is None:
        return explain(WaitingFacts(job=job.name, node_count=job.node_count, cluster=None))
    if job.handed_over:
        return why_handed_over(tx, job, cluster, settings)
    if job.blocked:
        return why_blocked(tx, job)
    return QueueExplainer(tx, cluster, settings, engine_available=engine_available).reason(job)


def why_handed_over(tx: Connection, job: JobRecord, cluster: ClusterRecord, settings: ControlSettings) -> Reason:
    """Why a job waits in the queue of an engine that has one: what the engine said last."""
    attempt = attempts.live_of_job(tx, job.id)
    said = attempt.waiting if attempt is not None else None
    away = recorded_fleet(tx, settings).why_away(cluster.engine)
    if away is None:
        return said or _in_engine(cluster)
    before = f" Before that it said: {said.text}" if said else ""
    text = f"Engine {cluster.engine} has the job and cannot be reached now: {away.text}{before}"
    return Reason(ReasonCode.ENGINE_UNAVAILABLE, text, {"engine": cluster.engine})


def _in_engine(cluster: ClusterRecord) -> Reason:
    text = f"Nothing holds the job back here: it is handed over to engine {cluster.engine} in a moment."
    return Reason(ReasonCode.WAITING_FOR_SCHEDULER, text, {"engine": cluster.engine})


@dataclass(frozen=True, slots=True)
class Waiting:
    """One job of a cluster's queue: its place, counted from 1, and why it waits."""

    position: int
    job: JobRecord
    reason: Reason
    estimate: Estimate | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """All that can be said of one job that waits."""

    reason: Reason
    estimate: Estimate | None = None
    #: Nodes of its cluster that take no job now, each with why.
    refused_nodes: tuple[NodeRecord, ...] = ()


def explain_fully(tx: Connection, job: JobRecord, settings: ControlSettings, reason: Reason) -> Explanation:
    """The reason why this queued job waits, with when it starts, and which nodes it cannot have."""
    cluster = or_none(clusters.get_by_uid, tx, job.cluster_uid)
    if cluster is None:
        return Explanation(reason)
    refused = tuple(node for node in nodes.of_cluster(tx, cluster.uid) if node.state is not NodeState.READY)
    may_start = job.not_before is None or job.not_before <= settings.clock()
    known = may_start and reason.code not in _NOBODY_KNOWS_WHEN
    found = estimates(tx, cluster, settings, {job.id}).get(job.id) if known else None
    return Explanation(reason, found, refused)


class QueueExplainer:
    """Explains the queue of one cluster at one moment: the scheduler is asked once for all its jobs."""

    def __init__(
        self,
        tx: Connection,
        cluster: ClusterRecord,
        settings: ControlSettings,
        *,
        engine_available: bool,
        standstill: Reason | None = None,
    ) -> None:
        """``standstill``: why no job of any cluster starts now, if that is so."""
        self._tx = tx
        self._standstill = standstill
        self._cluster = cluster
        self._settings = settings
        self._now = settings.clock()
        self._queues = queues(settings.engines, cluster.engine)
        #: Nodes that an engine's queue may still get jobs for; None where only each job is limited.
        self._room: int | None = None
        self._away = recorded_fleet(tx, settings).why_away(cluster.engine) if engine_available else None
        members = nodes.of_cluster(tx, cluster.uid)
        policies = Policies(tx, self._now, settings.prices)
        self._rules = policies.of(cluster.workspace_key)
        self._order = Order(self._rules.fair_share, self._rules.ledger, self._rules.limits, self._now)
        if self._queues:
            target, draining = len(members), False
            snapshot = handing_snapshot(tx, cluster, policies, self._now)
            self._room = room_in(cluster, policies)
        else:
            target, step = plan_size(tx, cluster, members, policies, self._now)
            draining, refused = step.draining, recovering.read(cluster)[1] is not None
            snapshot = snapshot_of(
                tx, cluster, members, policies, settings, self._now, refused=refused, draining=draining
            )
        self._decision = decide(snapshot, self._rules.ledger, self._rules.limits)
        self._facts = self._of_cluster(members, target, draining=draining, engine_available=engine_available)

    def reason(self, job: JobRecord) -> Reason:
        """Why this job waits."""
        return self._reason(job, *self._ahead(job))

    def queue(self, limit: int) -> list[Waiting]:
        """Those that the cluster's engine has in a queue of its own, the oldest first; ours in the order in which they
        are served, then those that are to be tried again later, then those that wait for other jobs.
        """
        listed = self._listed(limit)
        wanted = {waiting.job.id for waiting in listed if waiting.reason.code not in _NOBODY_KNOWS_WHEN}
        told = estimates(self._tx, self._cluster, self._settings, wanted) if wanted else {}
        return [replace(waiting, estimate=told.get(waiting.job.id)) for waiting in listed]

    def _listed(self, limit: int) -> list[Waiting]:
        found: list[Waiting] = []
        for job in jobs.handed_over(self._tx, self._cluster.uid, limit):
            why = why_handed_over(self._tx, job, self._cluster, self._settings)
            found.append(Waiting(len(found) + 1, job, why))
        handed = len(found)
        first: Gang | None = None
        for gang in islice(self._in_order(), limit - handed):
            job = jobs.get_by_id(self._tx, gang.job_id)
            found.append(Waiting(len(found) + 1, job, self._reason(job, len(found) - handed, first)))
            first = first or gang
        for job in jobs.delayed(self._tx, self._cluster.uid, self._now, limit - len(found)):
            found.append(Waiting(len(found) + 1, job, self._reason(job, len(found) - handed, first)))
        for job in jobs.blocked(self._tx, self._cluster.uid, limit - len(found)):
            found.append(Waiting(len(found) + 1, job, why_blocked(self._tx, job)))
        return found

    def _of_cluster(
        self, members: list[NodeRecord], target: int, *, draining: bool, engine_available: bool
    ) -> WaitingFacts:
        """What is the same for all jobs of the cluster."""
        cluster, reservation = self._cluster, self._decision.reservation
        states = [node.state for node in members]
        recovery, _ = recovering.read(cluster)
        problems = [node.reason for node in members if node.state is NodeState.UNUSABLE and node.reason]
        return WaitingFacts(
            job="",
            node_count=0,
            cluster=cluster.name,
            cluster_deleting=cluster.state is ProvisioningState.DELETING,
            engine_available=engine_available,
            draining=draining,
            now=self._now,
            idle=sum(1 for node in members if node.state is NodeState.READY and node.attempt_id is None),
            running=sum(1 for node in members if node.state is NodeState.READY and node.attempt_id is not None),
            preparing=states.count(NodeState.PREPARING),
            unusable=states.count(NodeState.UNUSABLE),
            leaving=states.count(NodeState.LEAVING),
            largest=largest_size(cluster.scale),
            target=target,
            reserved_for=None if reservation is None else jobs.get_by_id(self._tx, reservation.job_id).name,
            reserved_at=None if reservation is None or reservation.at >= NEVER else reservation.at,
            node_problem=problems[0] if problems else (cluster.errors[0] if cluster.errors else None),
            next_try=None if recovery is None or recovery.given_up else recovery.next_try or self._now,
        )

    def _reason(self, job: JobRecord, ahead: int, first: Gang | None) -> Reason:
        if self._standstill is not None:
            return self._standstill
        if self._away is not None:
            text = (
                f"Engine {self._cluster.engine} of cluster {self._cluster.name} cannot be reached now: "
                f"{self._away.text} Jobs start when it answers again."
            )
            return Reason(ReasonCode.ENGINE_UNAVAILABLE, text, {"engine": self._cluster.engine})
        held = self._held(job)
        if self._queues and self._may_start(job) and (held is None or held.hold is not Hold.LIMITED):
            return self._why_not_handed_over(job, ahead)
        return explain(
            replace(
                self._facts,
                job=job.name,
                node_count=job.node_count,
                retry_at=job.not_before if job.not_before is not None and job.not_before > self._now else None,
                ahead=ahead,
                first_ahead=None if first is None else jobs.get_by_id(self._tx, first.job_id).name,
                why_ahead=Ahead.AGE if first is None else self._why_ahead(first, gang_of(job)),
                held=held,
                limited=_limited_name(self._tx, job, held),
                wall_clock_seconds=job.wall_clock_seconds,
            )
        )

    def _why_not_handed_over(self, job: JobRecord, ahead: int) -> Reason:
        if self._room is None or any(job.id == placement.job_id for placement in self._decision.placements):
            return _in_engine(self._cluster)
        name, most = self._cluster.name, self._facts.largest
        before = f", and {ahead} {'job is' if ahead == 1 else 'jobs are'} before it" if ahead else ""
        text = (
            f"The jobs of cluster {name} have at most {most} nodes together (engine.nodeLimit is cluster); those that "
            f"engine {self._cluster.engine} has run or wait there for {most - self._room} of them. The job needs "
            f"{job.node_count}{before}: it is handed over when so many are free. Larger scale settings let more run."
        )
        details = {"engine": self._cluster.engine, "nodesNeeded": str(job.node_count), "jobsAhead": str(ahead)}
        return Reason(ReasonCode.WAITING_FOR_NODES, text, details)

    def _may_start(self, job: JobRecord) -> bool:
        facts = self._facts
        delayed = job.not_before is not None and job.not_before > self._now
        return facts.engine_available and not facts.cluster_deleting and not delayed and job.node_count <= facts.largest

    def _held(self, job: JobRecord) -> Held | None:
        """What the scheduler says of the job. It looks at one job only of those that the same limit holds back, and at
        none where there are no nodes.
        """
        held = self._decision.held.get(job.id)
        excess = self._rules.limits.excess(gang_of(job).owner, job.node_count, self._rules.ledger)
        if excess is not None and (held is None or excess.never):
            return Held(Hold.LIMITED, excess)
        return held

    def _why_ahead(self, first: Gang, own: Gang) -> Ahead:
        """What puts another job before this one."""
        ranks = zip(Ahead, self._order.rank(first), self._order.rank(own), strict=True)
        return next((why for why, theirs, ours in ranks if theirs != ours), Ahead.AGE)

    def _ahead(self, job: JobRecord) -> tuple[int, Gang | None]:
        """How many jobs are before this one, and the first of them."""
        if not self._rules.by_owner:
            ahead, found = jobs.queue_ahead(self._tx, job, self._now)
            return ahead, None if found is None else gang_of(found)
        ahead, first = 0, None
        for gang in islice(self._in_order(), _COUNTED):
            if gang.job_id == job.id:
                break
            first = first or gang
            ahead += 1
        return ahead, first

    def _in_order(self) -> Iterator[Gang]:
        rules = self._rules
        lanes = [map(gang_of, lane) for lane in waiting_lanes(self._tx, self._cluster, rules, self._now)]
        return Walk(lanes, self._order)


def _limited_name(tx: Connection, job: JobRecord, held: Held | None) -> str:
    """Whose limit it is, by name; empty for the workspace's own."""
    if held is None or held.hold is not Hold.LIMITED or held.excess is None:
        return ""
    scope = held.excess.limit.scope
    if scope is Scope.EXPERIMENT:
        return job.segment.split("/")[5]
    if scope is Scope.WORKSPACE or job.submitted_by is None:
        return ""
    user = or_none(principals.get, tx, job.submitted_by)
    return job.submitted_by if user is None else user.name
