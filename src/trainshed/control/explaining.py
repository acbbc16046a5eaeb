"""Gathers the facts that the explanation of a queued job rests on."""

from __future__ import annotations

from sqlalchemy import Connection

from trainshed.control.clusters import largest_size, plan_size
from trainshed.control.settings import ControlSettings
from trainshed.resources.lifecycle import NodeState, ProvisioningState
from trainshed.resources.reasons import Reason
from trainshed.scheduling.explain import WaitingFacts, explain
from trainshed.store import clusters, jobs, nodes
from trainshed.store.errors import or_none
from trainshed.store.records import JobRecord


def why_waiting(tx: Connection, job: JobRecord, settings: ControlSettings, *, engine_available: bool) -> Reason:
    """Why this queued job waits, and what would change it."""
    cluster = or_none(clusters.get_by_uid, tx, job.cluster_uid)
    if cluster is None:
        return explain(WaitingFacts(job=job.name, node_count=job.node_count, cluster=None))
    now = settings.clock()
    members = nodes.of_cluster(tx, cluster.uid)
    ahead, first = jobs.queue_ahead(tx, job, now)
    target, step = plan_size(tx, cluster, members, now)
    states = [node.state for node in members]
    problems = [node.reason for node in members if node.state is NodeState.UNUSABLE and node.reason]
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
            ahead=ahead,
            first_ahead=first.name if first else None,
            idle=sum(1 for node in members if node.state is NodeState.READY and node.attempt_id is None),
            running=sum(1 for node in members if node.state is NodeState.READY and node.attempt_id is not None),
            preparing=states.count(NodeState.PREPARING),
            unusable=states.count(NodeState.UNUSABLE),
            leaving=states.count(NodeState.LEAVING),
            largest=largest_size(cluster.scale),
            target=target,
            node_problem=problems[0] if problems else (cluster.errors[0] if cluster.errors else None),
        )
    )
