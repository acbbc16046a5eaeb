"""What an engine that queues by itself shows: nodes that are seen rather than made, and what waits or runs there."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection

from trainshed.control.dependencies import follow
from trainshed.control.fleet import Fleet
from trainshed.engines.protocol import EngineView, GangResult, GangStatus, NodeCondition, NodeStatus
from trainshed.resources.lifecycle import NodeEvent, NodeState
from trainshed.store import attempts, clusters, jobs, nodes
from trainshed.store.errors import or_none
from trainshed.store.records import AttemptRecord, ClusterRecord, NodeRecord


def mirror_nodes(tx: Connection, view: EngineView, fleet: Fleet, now: int) -> None:
    """Bring the records of such nodes to what the engines show."""
    shown: dict[str, dict[str, NodeStatus]] = {}
    for status in view.nodes:
        if fleet.queues(status.cluster_uid):
            shown.setdefault(status.cluster_uid, {})[status.node_id] = status
    for cluster in fleet.mirrored():
        _mirror(tx, cluster, shown.get(cluster.uid, {}), now)


def node_id(cluster: ClusterRecord, shown: str) -> str:
    """Our id of a node that an engine calls so. Two clusters may show the same node."""
    return f"tvm-{cluster.pool}_{shown}"


def mirror_gang(tx: Connection, attempt: AttemptRecord, status: GangStatus, now: int) -> bool:
    """Record why an attempt waits in its engine, or that it has begun. Whether jobs that wait for it may go on."""
    if attempt.waiting is None:
        return False
    began_at = status.started_at
    if began_at is None and status.result is GangResult.SUCCEEDED:
        began_at = status.ended_at or now  # It was quicker than anybody looked.
    if began_at is not None:
        return _begin(tx, attempt, began_at, status.hosts, now)
    if status.waiting is not None and status.waiting != attempt.waiting:
        attempts.set_waiting(tx, attempt.id, status.waiting)
    return False


def _begin(tx: Connection, attempt: AttemptRecord, began_at: int, hosts: tuple[str, ...], now: int) -> bool:
    cluster = or_none(clusters.get_by_uid, tx, attempt.cluster_uid)
    held = tuple(node_id(cluster, host) for host in hosts) if cluster is not None else hosts
    if not attempts.begin(tx, attempt.id, began_at, held, now):
        return False
    jobs.begin(tx, attempt.job_id, now, attempt.id, began_at)
    return follow(tx, [attempt.job_id], now).released


def _mirror(tx: Connection, cluster: ClusterRecord, shown: Mapping[str, NodeStatus], now: int) -> None:
    recorded = {node.id: node for node in nodes.of_cluster(tx, cluster.uid)}
    for status in shown.values():
        node = recorded.pop(node_id(cluster, status.node_id), None)
        if status.condition in (NodeCondition.EVICTED, NodeCondition.LOST):
            _let_go(tx, node)
        else:
            _follow(tx, node or _see(tx, cluster, status, now), status, now)
    for node in recorded.values():
        _let_go(tx, node)


def _let_go(tx: Connection, node: NodeRecord | None) -> None:
    """The engine does not show it any more: it stays only while an attempt is said to run there."""
    if node is not None and node.attempt_id is None:
        nodes.delete(tx, node.id)


def _see(tx: Connection, cluster: ClusterRecord, status: NodeStatus, now: int) -> NodeRecord:
    node = NodeRecord(
        id=node_id(cluster, status.node_id),
        cluster_uid=cluster.uid,
        ordinal=clusters.take_ordinals(tx, cluster.key, 1),
        state=NodeState.PREPARING,
        state_at=now,
        boot=status.boot,
        host_name=status.host_name,
        address=status.address,
        ssh_port=status.ssh_port,
        reason=status.reason if status.condition is NodeCondition.PREPARING else None,
    )
    nodes.insert(tx, node)
    return node


def _follow(tx: Connection, node: NodeRecord, status: NodeStatus, now: int) -> None:
    facts = (status.boot, status.host_name, status.address, status.ssh_port)
    if (node.boot, node.host_name, node.address, node.ssh_port) != facts:
        boot, host_name, address, ssh_port = facts
        nodes.set_facts(tx, node.id, boot=boot, host_name=host_name, address=address, ssh_port=ssh_port)
    state, condition, reason = node.state, status.condition, status.reason
    if state is NodeState.LEAVING:
        return  # Its cluster is being deleted.
    ready, unusable = condition is NodeCondition.READY, condition is NodeCondition.UNUSABLE
    if (state is NodeState.UNUSABLE and not unusable) or (state is NodeState.READY and not ready and not unusable):
        state = nodes.apply(tx, node.id, NodeEvent.REBOOTED, now, reason).state
    if state is NodeState.PREPARING and ready:
        nodes.apply(tx, node.id, NodeEvent.PREPARED, now)
    elif state is not NodeState.UNUSABLE and unusable:
        nodes.apply(tx, node.id, NodeEvent.SETUP_FAILED, now, reason)
    elif state is not NodeState.READY and reason != node.reason and state is node.state:
        nodes.set_reason(tx, node.id, reason)
