"""Gathers the facts that the explanation of a queued job rests on, with the scheduler's own decision about it."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from trainshed.control.clusters import largest_size, plan_size
from trainshed.control.policies import Policies
from trainshed.control.settings import ControlSettings
from trainshed.control.snapshots import gang_of, snapshot_of
from trainshed.resources.lifecycle import NodeState, ProvisioningState
from trainshed.resources.reasons import Reason
from trainshed.scheduling.decide import Decision, Held, Hold, decide
from trainshed.scheduling.explain import WaitingFacts, explain
from trainshed.scheduling.order import Order, Walk
from trainshed.scheduling.snapshot import NEVER, Scope
from trainshed.store import clusters, jobs, nodes, principals
from trainshed.store.errors import or_none
from trainshed.store.records import ClusterRecord, JobRecord, NodeRecord

#: Most jobs that are counted to say how many are ahead where fair share orders them.
_COUNTED = 10_000


@dataclass(frozen=True, slots=True)
class _Standing:
    """Where a job stands in its cluster's queue, and what the scheduler says of it."""

    ahead: int
    first_ahead: str | None
    decision: Decision


def why_waiting(tx: Connection, job: JobRecord, settings: ControlSettings, *, engine_available: bool) -> Reason:
    """Why this queued job waits, and what would change it."""
    cluster = or_none(clusters.get_by_uid, tx, job.cluster_uid)
    if cluster is None:
        return explain(WaitingFacts(job=job.name, node_count=job.node_count, cluster=None))
    now = settings.clock()
    members = nodes.of_cluster(tx, cluster.uid)
    target, step = plan_size(tx, cluster, members, now)
    states = [node.state for node in members]
    problems = [node.reason for node in members if node.state is NodeState.UNUSABLE and node.reason]
    standing = _standing(tx, job, cluster, members, settings, now, draining=step.draining)
    held = standing.decision.held.get(job.id)
    reservation = standing.decision.reservation
    return explain(
        WaitingFacts(
            job=job.name,
            node_count=job.node_count,
            cluster=cluster.name,
            cluster_deleting=cluster.state is ProvisioningState.DELETING,
            engine_available=engine_available,
            draining=step.draining,
            retry_at=job.not_before if job.not_before is not None and job.not_before > now else None,
            now=now,
            ahead=standing.ahead,
            first_ahead=standing.first_ahead,
            idle=sum(1 for node in members if node.state is NodeState.READY and node.attempt_id is None),
            running=sum(1 for node in members if node.state is NodeState.READY and node.attempt_id is not None),
            preparing=states.count(NodeState.PREPARING),
            unusable=states.count(NodeState.UNUSABLE),
            leaving=states.count(NodeState.LEAVING),
            largest=largest_size(cluster.scale),
            target=target,
            held=held,
            limited=_limited_name(tx, job, held),
            reserved_for=None if reservation is None else jobs.get_by_id(tx, reservation.job_id).name,
            reserved_at=None if reservation is None or reservation.at >= NEVER else reservation.at,
            wall_clock_seconds=job.wall_clock_seconds,
            node_problem=problems[0] if problems else (cluster.errors[0] if cluster.errors else None),
        )
    )


def _standing(
    tx: Connection,
    job: JobRecord,
    cluster: ClusterRecord,
    members: list[NodeRecord],
    settings: ControlSettings,
    now: int,
    *,
    draining: bool,
) -> _Standing:
    policies = Policies(tx, now, settings.prices)
    rules = policies.of(cluster.workspace_key)
    refused = bool(cluster.errors) and not any(node.state is NodeState.UNUSABLE for node in members)
    snapshot = snapshot_of(tx, cluster, members, policies, settings, now, refused=refused, draining=draining)
    decision = decide(snapshot, rules.ledger, rules.limits)
    if not rules.by_owner:
        ahead, first = jobs.queue_ahead(tx, job, now)
        return _Standing(ahead, first.name if first else None, decision)
    lanes = [map(gang_of, lane) for lane in jobs.lanes(tx, cluster.uid, now=now, first=64)]
    ahead, first_id = 0, None
    for gang in Walk(lanes, Order(rules.fair_share, rules.ledger, rules.limits, now)):
        if gang.job_id == job.id or ahead == _COUNTED:
            break
        first_id = gang.job_id if first_id is None else first_id
        ahead += 1
    name = jobs.get_by_id(tx, first_id).name if first_id is not None else None
    return _Standing(ahead, name, decision)


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
