"""Nodes and gangs as the engine sees them, written into the record."""

from __future__ import annotations

from sqlalchemy import Connection

from trainshed.control import recovering
from trainshed.control.actions import Actions, AddNodes, StopGang
from trainshed.control.draining import is_draining
from trainshed.control.endings import stop_attempt
from trainshed.control.fleet import Fleet
from trainshed.control.gangs import plan_of, start_of
from trainshed.control.mirroring import mirror_gang
from trainshed.control.outcomes import record_start
from trainshed.control.settings import ControlSettings
from trainshed.control.settling import let_go_or_take_up, settle_gangs
from trainshed.engines.protocol import EngineView, NodeCondition, NodeSpec, NodeStatus
from trainshed.resources.lifecycle import NODE, AttemptState, NodeEvent, NodeState, ProvisioningState
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.store import attempts, clusters, jobs, nodes
from trainshed.store.errors import or_none
from trainshed.store.records import NodeRecord

_UNKNOWN_GANG = Reason(ReasonCode.DELETED_BY_USER, "The service has no live attempt of this id.")


def sync_nodes(tx: Connection, view: EngineView, fleet: Fleet, actions: Actions, now: int) -> None:
    """Apply what engines say of the nodes that we made; have them end nodes that nobody wants."""
    recorded = {node.id: node for node in nodes.all_live(tx)}
    for status in view.nodes:
        if status.cluster_uid in view.mirrored or fleet.queues(status.cluster_uid):
            continue
        node = recorded.get(status.node_id)
        if node is None:
            actions.remove_nodes.append(status.node_id)
        elif status.condition is NodeCondition.EVICTED:
            take_away(tx, node, now, _taken_back(node))
        elif status.condition is NodeCondition.LOST:
            died = Reason(ReasonCode.NODE_LOST, f"Node {node.id} died.", {"node": node.id})
            _leave(tx, node, now, status.reason or died)
        else:
            _sync_node(tx, node, status, actions, now)


def take_away(tx: Connection, node: NodeRecord, now: int, why: str) -> None:
    """The node is gone, or is to go at once: its attempt is lost, by no fault of the job, and another node comes.

    Nothing changes for one that leaves already.
    """
    _leave(tx, node, now, Reason(ReasonCode.NODE_EVICTED, why, {"node": node.id}))


def _leave(tx: Connection, node: NodeRecord, now: int, reason: Reason) -> None:
    if NODE.allows(node.state, NodeEvent.REMOVAL_REQUESTED):
        nodes.apply(tx, node.id, NodeEvent.REMOVAL_REQUESTED, now, reason)


def _taken_back(node: NodeRecord) -> str:
    return f"Node {node.id} was taken back by whoever provides it."


def _sync_node(tx: Connection, node: NodeRecord, status: NodeStatus, actions: Actions, now: int) -> None:
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
    if _taken_out(node):
        return  # That it starts again does not make it better.
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
        if node.attempt_id is not None and status.reason is not None:
            stop_attempt(tx, attempts.get(tx, node.attempt_id), status.reason, "requeue", actions, now)
    elif state is NodeState.PREPARING and status.reason is not None and status.reason != node.reason:
        nodes.set_reason(tx, node.id, status.reason)


def unwanted_clusters(tx: Connection, view: EngineView, actions: Actions) -> None:
    """Have the engine forget clusters that nobody has any more: it was told so before, and the call was lost."""
    if not view.clusters:
        return
    going = {node.cluster_uid for node in view.nodes} - view.mirrored
    wanted = clusters.uids(tx) | going
    actions.remove_clusters += [uid for uid in view.clusters if uid not in wanted]


def _taken_out(node: NodeRecord) -> bool:
    return (
        node.state is NodeState.UNUSABLE
        and node.reason is not None
        and node.reason.code is ReasonCode.ATTEMPTS_DIE_ON_NODE
    )


def missing_nodes(
    tx: Connection, view: EngineView, fleet: Fleet, settings: ControlSettings, actions: Actions, now: int
) -> None:
    """Recorded nodes that the engine does not have: those that never were there are asked for again (it was told before
    a crash, or never was); those that were have been taken back.
    """
    present = {status.node_id for status in view.nodes}
    alive = {gang.attempt_id for gang in view.gangs if gang.result is None}
    wanted: dict[str, list[NodeSpec]] = {}
    for node in nodes.all_live(tx):
        if node.id in present or node.state is NodeState.LEAVING:
            continue
        if fleet.away(node.cluster_uid) or fleet.queues(node.cluster_uid):
            continue
        if node.boot > 0:
            take_away(tx, node, now, _taken_back(node))
            if node.attempt_id is not None and node.attempt_id in alive:
                reason = Reason(ReasonCode.NODE_EVICTED, _taken_back(node), {"node": node.id})
                stop_attempt(tx, attempts.get(tx, node.attempt_id), reason, "requeue", actions, now)
        else:
            wanted.setdefault(node.cluster_uid, []).append(NodeSpec(node.id, node.ordinal))
    for cluster_uid, specs in wanted.items():
        cluster = or_none(clusters.get_by_uid, tx, cluster_uid)
        if cluster is not None and cluster.state is not ProvisioningState.DELETING:
            actions.add_nodes.append(AddNodes(plan_of(tx, cluster, settings), tuple(specs)))


def sync_gangs(
    tx: Connection, view: EngineView, fleet: Fleet, settings: ControlSettings, actions: Actions, now: int
) -> None:
    """Settle what has ended, start again what was recorded but never reached the engine, end what nobody wants."""
    seen = {gang.attempt_id: gang for gang in view.gangs}
    live = {attempt.id: attempt for attempt in attempts.live(tx)}
    ended = [gang for gang in view.gangs if gang.result is not None]
    settle_gangs(tx, ended, actions, settings, now)
    for gang in view.gangs:
        if gang.result is None and gang.attempt_id not in live:
            actions.stops.append(StopGang(gang.attempt_id, _UNKNOWN_GANG))
    for attempt in live.values():
        gang_seen = seen.get(attempt.id)
        if gang_seen is None:
            if fleet.away(attempt.cluster_uid):
                continue
            job = jobs.get_by_id(tx, attempt.job_id)
            actions.starts.append(start_of(tx, job, attempt, settings))
        elif gang_seen.result is None and attempt.waiting is not None:
            actions.released |= mirror_gang(tx, attempt, gang_seen, now)
            if attempt.state is AttemptState.STOPPING and attempt.stop_reason is not None:
                actions.stops.append(StopGang(attempt.id, attempt.stop_reason, attempt.stop_warning))
        elif gang_seen.result is None and attempt.state is AttemptState.STOPPING and attempt.stop_reason is not None:
            actions.stops.append(StopGang(attempt.id, attempt.stop_reason, attempt.stop_warning))
        elif gang_seen.result is None:
            record_start(tx, attempt.id, now)
    let_go_or_take_up(tx, ended, actions, settings, now, draining=is_draining(tx, settings))


def refused_nodes(
    tx: Connection, cluster_uid: str, node_ids: tuple[str, ...], reason: Reason, settings: ControlSettings, now: int
) -> None:
    """Nodes that the engine could not provide are gone again, and the cluster says why."""
    cluster = or_none(clusters.get_by_uid, tx, cluster_uid)
    for node_id in node_ids:
        node = or_none(nodes.get, tx, node_id)
        if node is not None and node.state is NodeState.PREPARING:
            nodes.apply(tx, node_id, NodeEvent.REMOVAL_REQUESTED, now, reason)
            nodes.apply(tx, node_id, NodeEvent.REMOVED, now, reason)
    if cluster is None:
        return
    recovering.refused(tx, cluster, reason, now, settings.allocation)
    if reason not in cluster.errors:
        clusters.set_errors(tx, cluster.key, (reason, *cluster.errors))
