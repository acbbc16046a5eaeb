"""Clusters: provisioned, grown, shrunk and deleted, one pass at a time, against the engine's own view."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

from sqlalchemy import Connection

from trainshed.control import recovering
from trainshed.control.actions import Actions, AddNodes
from trainshed.control.endings import stop_attempt
from trainshed.control.fleet import Fleet
from trainshed.control.gangs import plan_of
from trainshed.control.outcomes import finish_job
from trainshed.control.policies import Policies
from trainshed.control.settings import ControlSettings
from trainshed.control.snapshots import gang_of, waiting_lanes
from trainshed.engines.protocol import NodeSpec
from trainshed.resources.engines import DEFAULT_ENGINE
from trainshed.resources.lifecycle import (
    AllocationEvent,
    AllocationState,
    JobEvent,
    JobState,
    NodeEvent,
    NodeState,
    OperationEvent,
    OperationVerb,
    ProvisioningEvent,
    ProvisioningState,
)
from trainshed.resources.preemption import may_preempt
from trainshed.resources.quotas import ClusterUse, counters
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.resources.vmsizes import find_size
from trainshed.scheduling.order import Order, Walk
from trainshed.scheduling.replacing import Recovery
from trainshed.scheduling.scaling import (
    Deallocation,
    Resize,
    ScalingNode,
    largest_size,
    resize,
    startable_nodes,
    target_of,
)
from trainshed.store import attempts, clusters, jobs, nodes, operations, secrets, usages, workspaces
from trainshed.store.records import ClusterRecord, NodeRecord

#: Why nodes of an engine's own cannot be used: so many of them are a cluster's errors.
_SHOWN_ERRORS = 10
#: Why a node leaves that is gone already.
_GONE = (ReasonCode.NODE_EVICTED, ReasonCode.NODE_LOST, ReasonCode.NODE_DAEMON_LOST)


def scaling_nodes(tx: Connection, cluster: ClusterRecord, members: list[NodeRecord]) -> list[ScalingNode]:
    """The cluster's nodes that stay unless something decides otherwise."""
    released = nodes.released_at(tx, cluster.uid)
    return [
        ScalingNode(
            node_id=node.id,
            ordinal=node.ordinal,
            usable=node.state is not NodeState.UNUSABLE,
            ready=node.state is NodeState.READY,
            attempt_id=node.attempt_id,
            idle_since=max(node.state_at, released.get(node.id, 0)),
        )
        for node in members
        if node.state is not NodeState.LEAVING
    ]


def plan_size(
    tx: Connection, cluster: ClusterRecord, members: list[NodeRecord], policies: Policies, now: int
) -> tuple[int, Resize]:
    """The number of nodes that the cluster should have now, and how to get there."""
    staying = scaling_nodes(tx, cluster, members)
    queued = _startable(tx, cluster, policies, now) if "autoScale" in cluster.scale else 0
    target = target_of(cluster.scale, staying, queued, now, created=cluster.next_ordinal > 0)
    return target, resize(cluster.scale, staying, target)


def _startable(tx: Connection, cluster: ClusterRecord, policies: Policies, now: int) -> int:
    """How many nodes the waiting jobs could use."""
    rules, most = policies.of(cluster.workspace_key), largest_size(cluster.scale)
    lanes = [map(gang_of, lane) for lane in waiting_lanes(tx, cluster, rules, now, max_nodes=most)]
    order = Order(rules.fair_share, rules.ledger, rules.limits, now)
    return startable_nodes(Walk(lanes, order), rules.ledger, rules.limits, most)


def _leaves_for(node: NodeRecord, *codes: ReasonCode) -> bool:
    return node.state is NodeState.LEAVING and node.reason is not None and node.reason.code in codes


class ClusterPass:
    """One pass over all clusters inside one transaction."""

    def __init__(
        self,
        tx: Connection,
        actions: Actions,
        settings: ControlSettings,
        now: int,
        *,
        fleet: Fleet,
        view_nodes: set[str],
        view_whole: bool = True,
        introduced: frozenset[str] = frozenset(),
        told: Mapping[str, int | None] | None = None,
    ) -> None:
        self._tx = tx
        self._actions = actions
        self._settings = settings
        self._now = now
        #: Ids of the nodes that the engine has now.
        self._view_nodes = view_nodes
        #: Whether a node that is not among them will not appear any more: no request for nodes is under way.
        self._view_whole = view_whole
        #: Engines that were told of every cluster of theirs: secrets of setup tasks are kept nowhere but in the vault,
        #: so an engine that was started again needs them from the service.
        self._introduced = introduced
        #: By uid, the largest size that an engine which queues has been told of a cluster.
        self._told = told or {}
        self._fleet = fleet
        self._policies = Policies(tx, now, settings.prices)
        #: Clusters on which nothing new may start.
        self.draining: set[str] = set()
        #: Clusters whose nodes could not be had and are not asked for again yet.
        self.refused: set[str] = set()
        #: Clusters whose engine cannot be reached now.
        self.away: set[str] = set()
        #: Whether any cluster's engine queues by itself.
        self.queueing = False
        #: Whether any cluster scales by itself.
        self.automatic = False
        #: Whether on any cluster jobs take nodes from others.
        self.preempting = False
        #: What all clusters use, read when the first one is to grow.
        self._uses: dict[usages.Region, list[ClusterUse]] | None = None

    def run(self) -> None:
        """Advance every cluster."""
        for cluster in clusters.all(self._tx):
            if self._fleet.away(cluster.uid):
                self.away.add(cluster.uid)
                if cluster.state is ProvisioningState.DELETING:
                    self._end_jobs(cluster)
                continue
            mirrored = self._fleet.queues(cluster.uid)
            self.queueing = self.queueing or mirrored
            members = nodes.of_cluster(self._tx, cluster.uid)
            if cluster.state is ProvisioningState.DELETING:
                self._delete(cluster, members, mirrored=mirrored)
                continue
            untold = mirrored and self._told.get(cluster.uid) != largest_size(cluster.scale)
            if cluster.state is ProvisioningState.CREATING:
                self._provision(cluster)
            elif cluster.engine not in self._introduced or untold:
                self._actions.ensure_clusters.append(plan_of(self._tx, cluster, self._settings))
            if mirrored:
                self._mirror(cluster, members)
                continue
            self._release(members)
            self._scale(cluster, members)

    def _mirror(self, cluster: ClusterRecord, members: list[NodeRecord]) -> None:
        """Its nodes are the engine's affair; the scale settings are a limit that the engine has been told."""
        if cluster.allocation is AllocationState.RESIZING:
            clusters.apply_allocation(self._tx, cluster.key, AllocationEvent.RESIZE_FINISHED, self._now)
        told = [node.reason for node in members if node.state is NodeState.UNUSABLE and node.reason]
        errors = tuple(told[:_SHOWN_ERRORS])
        if errors != cluster.errors:
            clusters.set_errors(self._tx, cluster.key, errors)

    def _provision(self, cluster: ClusterRecord) -> None:
        self._actions.ensure_clusters.append(plan_of(self._tx, cluster, self._settings))
        clusters.apply_provisioning(self._tx, cluster.key, ProvisioningEvent.PROVISIONED, self._now)
        operations.finish_for(self._tx, OperationVerb.CREATE_CLUSTER, cluster.key, OperationEvent.SUCCEEDED, self._now)
        self._actions.again = True

    def _scale(self, cluster: ClusterRecord, members: list[NodeRecord]) -> None:
        recovery, refusal, members = self._recover(cluster, members)
        target, step = plan_size(self._tx, cluster, members, self._policies, self._now)
        self.automatic = self.automatic or "autoScale" in cluster.scale
        self.preempting = self.preempting or may_preempt(cluster.definition)
        if step.draining:
            self.draining.add(cluster.uid)
        replacing = any(_leaves_for(node, ReasonCode.NODE_REPLACED) for node in members)
        add, shortage = self._within_quota(cluster, members, 0 if replacing or refusal is not None else step.add)
        if refusal is not None:
            self.refused.add(cluster.uid)
        if add:
            self._add(cluster, add)
        for node in step.remove:
            self._remove(node, step.deallocation, cluster)
        self._set_allocation(cluster, members, target, changing=bool(add or step.remove or step.draining))
        well = not step.add and all(node.state in (NodeState.READY, NodeState.LEAVING) for node in members)
        if recovery is not None and well and refusal is None and recovery.over(self._now, self._settings.replacement):
            recovery = None
        recovering.write(self._tx, cluster, recovery, refusal)
        self._set_errors(cluster, members, refusal or shortage, recovery, refusal)

    def _recover(
        self, cluster: ClusterRecord, members: list[NodeRecord]
    ) -> tuple[Recovery | None, Reason | None, list[NodeRecord]]:
        """Nodes that cannot be used are replaced, and refused ones asked for again, once their pause is over."""
        recovery, refusal = recovering.read(cluster)
        broken = [node for node in members if node.state is NodeState.UNUSABLE and node.attempt_id is None]
        if broken:
            recovery = Recovery.after_failure(recovery, self._now, self._settings.replacement)
        if recovery is None:
            return None, None, members
        if recovery.due(self._now):
            recovery, refusal = recovery.trying(self._now), None
            for node in broken:
                self._replace(node)
            members = nodes.of_cluster(self._tx, cluster.uid) if broken else members
        look = recovery.looked_at(self._settings.replacement)
        if look is not None and look > self._now:
            self._actions.wake_at(look)
        return recovery, refusal, members

    def _replace(self, node: NodeRecord) -> None:
        why = f" ({node.reason.text})" if node.reason else ""
        reason = Reason(ReasonCode.NODE_REPLACED, f"Node {node.id} could not be used{why} and is replaced.")
        nodes.apply(self._tx, node.id, NodeEvent.REMOVAL_REQUESTED, self._now, reason)
        self._actions.remove_nodes.append(node.id)

    def _within_quota(
        self, cluster: ClusterRecord, members: list[NodeRecord], wanted: int
    ) -> tuple[int, Reason | None]:
        """How many of the wanted nodes the quota of cores allows, and why not all (behaviour 2: the count stays short).

        Nodes that others are promised count as theirs, so that a cluster that grows by itself cannot take them.
        """
        size = find_size(cluster.vm_size, self._settings.local_sizes)
        if wanted == 0 or size is None or cluster.engine != DEFAULT_ENGINE:
            return wanted, None
        workspace = workspaces.get(self._tx, cluster.workspace_key)
        region = usages.Region.of(workspace.subscription, workspace.location)
        if self._uses is None:
            self._uses = usages.everywhere(self._tx)
        uses = self._uses.get(region, [])
        others = [use for use in uses if use.key != cluster.key]
        priority = cluster.definition.get("vmPriority", "dedicated")
        limits = self._settings.quotas.limits(workspace.subscription)
        allowed = max(0, limits.nodes_allowed(others, size, priority, self._settings.local_sizes) - len(members))
        own = next((use for use in uses if use.key == cluster.key), None)
        add = min(wanted, allowed)
        if own is not None and add:
            grown = replace(own, nodes=len(members) + add)
            self._uses[region] = [grown if use.key == cluster.key else use for use in uses]
        if add == wanted:
            return add, None
        names = " and ".join(f"'{name}' ({limits.of(name)})" for name in counters(size, priority))
        text = (
            f"The quotas {names} of subscription {workspace.subscription} in region {workspace.location} leave "
            f"cluster {cluster.name} {len(members) + add} nodes of {size.name}, {wanted - add} fewer than it is to "
            "have. Scale other clusters down, use a smaller size, or have the quota increased."
        )
        return add, Reason(ReasonCode.CORE_QUOTA_REACHED, text, {"missingNodes": str(wanted - add)})

    def _add(self, cluster: ClusterRecord, count: int) -> None:
        first = clusters.take_ordinals(self._tx, cluster.key, count)
        stamp = time.strftime("%Y%m%dt%H%M%Sz", time.gmtime(self._now / 1000))
        suffix = "-p" if cluster.definition.get("vmPriority") == "lowpriority" else ""
        specs = []
        for ordinal in range(first, first + count):
            node_id = f"tvm-{cluster.pool}_{ordinal + 1}-{stamp}{suffix}"
            reason = Reason(ReasonCode.NODE_STARTING, "The node was asked for and has not reported yet.")
            nodes.insert(
                self._tx,
                NodeRecord(
                    id=node_id,
                    cluster_uid=cluster.uid,
                    ordinal=ordinal,
                    state=NodeState.PREPARING,
                    state_at=self._now,
                    boot=0,
                    host_name="",
                    address="",
                    ssh_port=None,
                    reason=reason,
                ),
            )
            specs.append(NodeSpec(node_id, ordinal))
        self._actions.add_nodes.append(AddNodes(plan_of(self._tx, cluster, self._settings), tuple(specs)))

    def _remove(self, node: ScalingNode, option: Deallocation, cluster: ClusterRecord) -> None:
        reason = Reason(ReasonCode.NODE_LEAVING, f"Cluster {cluster.name} is being scaled down.")
        nodes.apply(self._tx, node.node_id, NodeEvent.REMOVAL_REQUESTED, self._now, reason)
        if node.attempt_id is None:
            self._actions.remove_nodes.append(node.node_id)
            return
        attempt = attempts.get(self._tx, node.attempt_id)
        if option is Deallocation.TERMINATE:
            why = Reason(
                ReasonCode.SCALED_DOWN,
                f"Cluster {cluster.name} was scaled down with nodeDeallocationOption terminate while the job ran.",
            )
            stop_attempt(self._tx, attempt, why, "fail", self._actions, self._now)
        else:
            why = Reason(
                ReasonCode.REQUEUED_BY_SCALE_DOWN,
                f"Cluster {cluster.name} was scaled down while the job ran there; the job is queued again.",
            )
            stop_attempt(self._tx, attempt, why, "requeue", self._actions, self._now)

    def _release(self, members: list[NodeRecord]) -> None:
        """Nodes that are leaving: out of the engine when free, gone when the engine has them no more.

        One that was taken away or died leaves as it is; its attempt is lost with it.
        """
        for node in members:
            if node.state is not NodeState.LEAVING:
                continue
            free = node.attempt_id is None
            if free or _leaves_for(node, *_GONE):
                if node.id in self._view_nodes:
                    self._actions.remove_nodes.append(node.id)
                elif free and self._view_whole:
                    nodes.apply(self._tx, node.id, NodeEvent.REMOVED, self._now)
                    self._actions.again = True

    def _set_allocation(
        self, cluster: ClusterRecord, members: list[NodeRecord], target: int, *, changing: bool
    ) -> None:
        leaving = any(node.state is NodeState.LEAVING for node in members)
        if changing or leaving:
            if cluster.allocation is AllocationState.STEADY:
                clusters.apply_allocation(self._tx, cluster.key, AllocationEvent.RESIZE_STARTED, self._now)
        elif cluster.allocation is AllocationState.RESIZING:
            clusters.apply_allocation(self._tx, cluster.key, AllocationEvent.RESIZE_FINISHED, self._now)

    def _set_errors(
        self,
        cluster: ClusterRecord,
        members: list[NodeRecord],
        shortage: Reason | None,
        recovery: Recovery | None,
        refusal: Reason | None,
    ) -> None:
        errors = tuple(node.reason for node in members if node.state is NodeState.UNUSABLE and node.reason)
        if shortage is not None:
            errors = (shortage, *errors)
        if recovery is not None and recovery.blocked and errors:
            policy = self._settings.allocation if refusal else self._settings.replacement
            errors = (*errors, recovering.outlook(cluster, recovery, refusal, policy))
        if errors != cluster.errors:
            clusters.set_errors(self._tx, cluster.key, errors)

    def _end_jobs(self, cluster: ClusterRecord) -> Reason:
        """Of a cluster that is being deleted: those that wait fail, those that its engine has are to be stopped."""
        why = Reason(
            ReasonCode.CLUSTER_DELETED,
            f"Cluster {cluster.name} was deleted. Create the job again on another cluster.",
        )
        # The newest first: a job that waits for another one is newer, and ends for this reason too.
        for job in reversed(jobs.of_cluster(self._tx, cluster.uid, (JobState.QUEUED,))):
            if job.handed_over:
                continue
            finish_job(self._tx, job, JobEvent.FAILED, self._now, exit_code=None, errors=(why,), ended_at=self._now)
        for attempt in attempts.live_of_cluster(self._tx, cluster.uid):
            stop_attempt(self._tx, attempt, why, "fail", self._actions, self._now)
        return why

    def _delete(self, cluster: ClusterRecord, members: list[NodeRecord], *, mirrored: bool) -> None:
        why = self._end_jobs(cluster)
        if mirrored and cluster.uid not in self._told and attempts.live_of_cluster(self._tx, cluster.uid):
            # What may be on its way to the engine is handed over once more to be stopped there.
            self._actions.ensure_clusters.append(plan_of(self._tx, cluster, self._settings))
        for node in members:
            if mirrored and node.attempt_id is None:
                nodes.delete(self._tx, node.id)
                self._actions.again = True
            elif not mirrored and node.state is not NodeState.LEAVING:
                nodes.apply(self._tx, node.id, NodeEvent.REMOVAL_REQUESTED, self._now, why)
                self._actions.again = True
        if not mirrored:
            self._release(members)
        if not members and not attempts.live_of_cluster(self._tx, cluster.uid):
            self._actions.remove_clusters.append(cluster.uid)
            secrets.delete(self._tx, cluster.uid)
            clusters.delete(self._tx, cluster.key)
            # It may have been deleted before it was provisioned: its creation is over too.
            for verb in (OperationVerb.CREATE_CLUSTER, OperationVerb.DELETE_CLUSTER):
                operations.finish_for(self._tx, verb, cluster.key, OperationEvent.SUCCEEDED, self._now)
            self._actions.again = True
