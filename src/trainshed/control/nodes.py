"""Nodes and gangs as the engine sees them, written into the record."""

from __future__ import annotations

from sqlalchemy import Connection

from trainshed.control.actions import Actions, AddNodes, StopGang
from trainshed.control.gangs import plan_of, start_of
from trainshed.control.outcomes import record_start, settle
from trainshed.control.settings import ControlSettings
from trainshed.engines.protocol import EngineView, NodeCondition, NodeSpec, NodeStatus
from trainshed.resources.lifecycle import AttemptState, NodeEvent, NodeState, ProvisioningState
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.store import attempts, clusters, jobs, nodes
from trainshed.store.errors import or_none
from trainshed.store.records import NodeRecord

_UNKNOWN_GANG = Reason(ReasonCode.DELETED_BY_USER, "The service has no live attempt of this id.")


def sync_nodes(tx: Connection, view: EngineView, actions: Actions, now: int) -> None:
    """Apply what the engine says of nodes; have it end nodes that nobody wants."""
    recorded = {node.id: node for node in nodes.all_live(tx)}
    for status in view.nodes:
        node = recorded.get(status.node_id)
        if node is None:
            actions.remove_nodes.append(status.node_id)
        else:
            _sync_node(tx, node, status, now)


def _sync_node(tx: Connection, node: NodeRecord, status: NodeStatus, now: int) -> None:
    if (node.boot, node.host_name, node.address, node.ssh_port) != (
        status.boot,
        status.host_name,
        status.address,
        status.ssh_port,
    ):
        nodes.set_facts(
            tx,
            node.id,
            boot=status.boot,
            host_name=status.host_name,
            address=status.address,
            ssh_port=status.ssh_port,
        )
    state = node.state
    # One that the engine had lost and made again begins to count its boots anew.
    mended = state is NodeState.UNUSABLE and status.condition is NodeCondition.READY
    restarted = status.boot != node.boot > 0 or status.condition is NodeCondition.PREPARING or mended
    if restarted and state in (NodeState.READY, NodeState.UNUSABLE):
        nodes.apply(tx, node.id, NodeEvent.REBOOTED, now, status.reason)
        state = NodeState.PREPARING
    if state is NodeState.PREPARING and status.condition is NodeCondition.READY:
        nodes.apply(tx, node.id, NodeEvent.PREPARED, now)
    elif state in (NodeState.PREPARING, NodeState.READY) and status.condition is NodeCondition.UNUSABLE:
        nodes.apply(tx, node.id, NodeEvent.SETUP_FAILED, now, status.reason)
    elif state is NodeState.PREPARING and status.reason is not None and status.reason != node.reason:
        nodes.set_reason(tx, node.id, status.reason)


def unwanted_clusters(tx: Connection, view: EngineView, actions: Actions) -> None:
    """Have the engine forget clusters that nobody has any more: it was told so before, and the call was lost."""
    if not view.clusters:
        return
    wanted = clusters.uids(tx) | {node.cluster_uid for node in view.nodes}
    actions.remove_clusters += [uid for uid in view.clusters if uid not in wanted]


def missing_nodes(tx: Connection, view: EngineView, settings: ControlSettings, actions: Actions) -> None:
    """Ask again for recorded nodes that the engine does not have (it was told before a crash, or never was)."""
    present = {status.node_id for status in view.nodes}
    wanted: dict[str, list[NodeSpec]] = {}
    for node in nodes.all_live(tx):
        if node.id not in present and node.state is not NodeState.LEAVING:
            wanted.setdefault(node.cluster_uid, []).append(NodeSpec(node.id, node.ordinal))
    for cluster_uid, specs in wanted.items():
        cluster = or_none(clusters.get_by_uid, tx, cluster_uid)
        if cluster is not None and cluster.state is not ProvisioningState.DELETING:
            actions.add_nodes.append(AddNodes(plan_of(tx, cluster, settings), tuple(specs)))


def sync_gangs(tx: Connection, view: EngineView, settings: ControlSettings, actions: Actions, now: int) -> None:
    """Settle what has ended, start again what was recorded but never reached the engine, end what nobody wants."""
    seen = {gang.attempt_id: gang for gang in view.gangs}
    live = {attempt.id: attempt for attempt in attempts.live(tx)}
    for gang in view.gangs:
        if gang.result is not None:
            actions.wake_at(settle(tx, gang, now, settings.lost_attempts_limit))
            actions.forget.append(gang.attempt_id)
        elif gang.attempt_id not in live:
            actions.stops.append(StopGang(gang.attempt_id, _UNKNOWN_GANG))
    for attempt in live.values():
        gang_seen = seen.get(attempt.id)
        if gang_seen is None:
            job = jobs.get_by_id(tx, attempt.job_id)
            actions.starts.append(start_of(tx, job, attempt, settings))
        elif gang_seen.result is None and attempt.state is AttemptState.STOPPING and attempt.stop_reason is not None:
            actions.stops.append(StopGang(attempt.id, attempt.stop_reason))
        elif gang_seen.result is None:
            record_start(tx, attempt.id, now)


def refused_nodes(tx: Connection, cluster_uid: str, node_ids: tuple[str, ...], reason: Reason, now: int) -> None:
    """Nodes that the engine could not provide are gone again, and the cluster says why."""
    cluster = or_none(clusters.get_by_uid, tx, cluster_uid)
    for node_id in node_ids:
        node = or_none(nodes.get, tx, node_id)
        if node is not None and node.state is NodeState.PREPARING:
            nodes.apply(tx, node_id, NodeEvent.REMOVAL_REQUESTED, now, reason)
            nodes.apply(tx, node_id, NodeEvent.REMOVED, now, reason)
    if cluster is not None and reason not in cluster.errors:
        clusters.set_errors(tx, cluster.key, (reason, *cluster.errors))
