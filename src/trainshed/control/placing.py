"""Queued jobs onto idle nodes: snapshot, decision, record."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from trainshed.control.actions import Actions
from trainshed.control.clusters import largest_size
from trainshed.control.gangs import start_of
from trainshed.control.settings import ControlSettings
from trainshed.resources.lifecycle import NodeState, ProvisioningState
from trainshed.scheduling.order import decide
from trainshed.scheduling.snapshot import ClusterSnapshot, QueuedGang
from trainshed.store import attempts, clusters, jobs, nodes
from trainshed.store.errors import or_none
from trainshed.store.records import ClusterRecord, NodeRecord


@dataclass(frozen=True, slots=True)
class Held:
    """Clusters (by uid) that the last full pass found in a special way."""

    #: Nothing new may start there until they have shrunk.
    draining: frozenset[str] = frozenset()
    #: The engine could not provide the nodes that they ask for.
    refused: frozenset[str] = frozenset()
    #: Whether any cluster scales by itself: a longer queue then means more nodes.
    automatic: bool = False


def place_jobs(tx: Connection, actions: Actions, held: Held, settings: ControlSettings, now: int) -> None:
    """Record an attempt for every job that may start now; the engine is asked after the commit."""
    for cluster_uid in jobs.clusters_with_queue(tx):
        if cluster_uid in held.draining:
            continue
        cluster = or_none(clusters.get_by_uid, tx, cluster_uid)
        if cluster is None or cluster.state is not ProvisioningState.SUCCEEDED:
            continue
        members = nodes.of_cluster(tx, cluster_uid)
        idle = tuple(node.id for node in members if is_idle(node))
        attainable = attainable_nodes(cluster, members, refused=cluster_uid in held.refused)
        if "autoScale" in cluster.scale and attainable > len(members):
            actions.grow = True
        if not idle:
            continue
        # In strict order no more gangs can start than there are idle nodes, and the next one decides who waits.
        head = jobs.queue_head(tx, cluster_uid, len(idle) + 1, now=now, max_nodes=attainable)
        snapshot = ClusterSnapshot(
            queue=tuple(QueuedGang(job.id, job.priority, job.node_count) for job in head),
            idle_nodes=idle,
            attainable_nodes=attainable,
        )
        for placement in decide(snapshot):
            _record(tx, actions, placement.job_id, placement.node_ids, cluster_uid, settings, now)


def is_idle(node: NodeRecord) -> bool:
    """Whether a gang may be placed on the node."""
    return node.state is NodeState.READY and node.attempt_id is None


def attainable_nodes(cluster: ClusterRecord, members: list[NodeRecord], *, refused: bool) -> int:
    """How many nodes a gang can hope for: those that work or are being prepared, and those that scaling may still add.

    ``refused``: the engine could not provide more nodes the last time, so only those that are there count.
    """
    present = sum(1 for node in members if node.state in (NodeState.READY, NodeState.PREPARING))
    if refused:
        return present
    unusable = sum(1 for node in members if node.state is NodeState.UNUSABLE)
    return max(present, largest_size(cluster.scale) - unusable)


def _record(
    tx: Connection,
    actions: Actions,
    job_id: int,
    node_ids: tuple[str, ...],
    cluster_uid: str,
    settings: ControlSettings,
    now: int,
) -> None:
    job = jobs.get_by_id(tx, job_id)
    attempt_id = settings.new_id()
    attempt = attempts.insert(
        tx, id=attempt_id, job_id=job_id, number=job.attempts + 1, cluster_uid=cluster_uid, node_ids=node_ids, now=now
    )
    jobs.place(tx, job_id, now, attempt_id)
    actions.starts.append(start_of(tx, job, attempt, settings))
