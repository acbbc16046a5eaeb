"""Clusters: provisioned, grown, shrunk and deleted, one pass at a time, against the engine's own view."""

from __future__ import annotations

import time
from dataclasses import replace

from sqlalchemy import Connection

from trainshed.control.actions import Actions, AddNodes
from trainshed.control.endings import stop_attempt
from trainshed.control.gangs import plan_of
from trainshed.control.outcomes import finish_job
from trainshed.control.settings import ControlSettings
from trainshed.engines.protocol import NodeSpec
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
from trainshed.resources.quotas import ClusterUse, counters
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.resources.vmsizes import find_size
from trainshed.scheduling.scaling import Deallocation, Resize, ScalingNode, resize, target_of
from trainshed.store import attempts, clusters, jobs, nodes, operations, secrets, usages, workspaces
from trainshed.store.records import ClusterRecord, NodeRecord


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


def plan_size(tx: Connection, cluster: ClusterRecord, members: list[NodeRecord], now: int) -> tuple[int, Resize]:
    """The number of nodes that the cluster should have now, and how to get there."""
    staying = scaling_nodes(tx, cluster, members)
    queued = jobs.queued_nodes(tx, cluster.uid, now) if "autoScale" in cluster.scale else 0
    target = target_of(cluster.scale, staying, queued, now, created=cluster.next_ordinal > 0)
    return target, resize(cluster.scale, staying, target)


def largest_size(scale: dict[str, dict[str, int]]) -> int:
    """The most nodes that the scale settings allow."""
    if "autoScale" in scale:
        return int(scale["autoScale"]["maximumNodeCount"])
    return int(scale.get("manual", {}).get("targetNodeCount", 0))


class ClusterPass:
    """One pass over all clusters inside one transaction."""

    def __init__(
        self,
        tx: Connection,
        actions: Actions,
        settings: ControlSettings,
        now: int,
        *,
        view_nodes: set[str],
        refused: dict[str, tuple[int, Reason]],
        introduce: bool = False,
    ) -> None:
        self._tx = tx
        self._actions = actions
        self._settings = settings
        self._now = now
        #: Ids of the nodes that the engine has now.
        self._view_nodes = view_nodes
        #: Clusters whose nodes could not be had: until when (Unix ms) not to ask again, and why.
        self._refused = refused
        #: Whether the engine is to be told of every cluster: secrets of setup tasks are kept nowhere but in the vault,
        #: so an engine that was started again needs them from the service.
        self._introduce = introduce
        #: Clusters on which nothing new may start.
        self.draining: set[str] = set()
        #: Whether any cluster scales by itself.
        self.automatic = False
        #: What all clusters use, read when the first one is to grow.
        self._uses: dict[usages.Region, list[ClusterUse]] | None = None

    def run(self) -> None:
        """Advance every cluster."""
        for cluster in clusters.all(self._tx):
            members = nodes.of_cluster(self._tx, cluster.uid)
            if cluster.state is ProvisioningState.DELETING:
                self._delete(cluster, members)
                continue
            if cluster.state is ProvisioningState.CREATING:
                self._provision(cluster)
            elif self._introduce:
                self._actions.ensure_clusters.append(plan_of(self._tx, cluster, self._settings))
            self._release(members)
            self._scale(cluster, members)

    def _provision(self, cluster: ClusterRecord) -> None:
        self._actions.ensure_clusters.append(plan_of(self._tx, cluster, self._settings))
        clusters.apply_provisioning(self._tx, cluster.key, ProvisioningEvent.PROVISIONED, self._now)
        operations.finish_for(self._tx, OperationVerb.CREATE_CLUSTER, cluster.key, OperationEvent.SUCCEEDED, self._now)
        self._actions.again = True

    def _scale(self, cluster: ClusterRecord, members: list[NodeRecord]) -> None:
        target, step = plan_size(self._tx, cluster, members, self._now)
        self.automatic = self.automatic or "autoScale" in cluster.scale
        if step.draining:
            self.draining.add(cluster.uid)
        refused_until, refusal = self._refused.get(cluster.uid, (0, None))
        add, shortage = self._within_quota(cluster, members, step.add)
        blocked = add > 0 and refusal is not None and self._now < refused_until
        if add and not blocked:
            self._refused.pop(cluster.uid, None)
            self._add(cluster, add)
        for node in step.remove:
            self._remove(node, step.deallocation, cluster)
        self._set_allocation(
            cluster, members, target, changing=bool((add and not blocked) or step.remove or step.draining)
        )
        self._set_errors(cluster, members, refusal if blocked else shortage)

    def _within_quota(
        self, cluster: ClusterRecord, members: list[NodeRecord], wanted: int
    ) -> tuple[int, Reason | None]:
        """How many of the wanted nodes the quota of cores allows, and why not all (behaviour 2: the count stays short).

        Nodes that others are promised count as theirs, so that a cluster that grows by itself cannot take them.
        """
        size = find_size(cluster.vm_size, self._settings.local_sizes)
        if wanted == 0 or size is None:
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
        """Nodes that are leaving: out of the engine when free, gone when the engine has them no more."""
        for node in members:
            if node.state is NodeState.LEAVING and node.attempt_id is None:
                if node.id in self._view_nodes:
                    self._actions.remove_nodes.append(node.id)
                else:
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

    def _set_errors(self, cluster: ClusterRecord, members: list[NodeRecord], refusal: Reason | None) -> None:
        errors = tuple(node.reason for node in members if node.state is NodeState.UNUSABLE and node.reason)
        if refusal is not None:
            errors = (refusal, *errors)
        if errors != cluster.errors:
            clusters.set_errors(self._tx, cluster.key, errors)

    def _delete(self, cluster: ClusterRecord, members: list[NodeRecord]) -> None:
        why = Reason(
            ReasonCode.CLUSTER_DELETED,
            f"Cluster {cluster.name} was deleted. Create the job again on another cluster.",
        )
        # The newest first: a job that waits for another one is newer, and ends for this reason too.
        for job in reversed(jobs.of_cluster(self._tx, cluster.uid, (JobState.QUEUED,))):
            finish_job(self._tx, job, JobEvent.FAILED, self._now, exit_code=None, errors=(why,), ended_at=self._now)
        for attempt in attempts.live_of_cluster(self._tx, cluster.uid):
            stop_attempt(self._tx, attempt, why, "fail", self._actions, self._now)
        for node in members:
            if node.state is not NodeState.LEAVING:
                nodes.apply(self._tx, node.id, NodeEvent.REMOVAL_REQUESTED, self._now, why)
                self._actions.again = True
        self._release(members)
        if not members and not attempts.live_of_cluster(self._tx, cluster.uid):
            self._actions.remove_clusters.append(cluster.uid)
            secrets.delete(self._tx, cluster.uid)
            clusters.delete(self._tx, cluster.key)
            operations.finish_for(
                self._tx, OperationVerb.DELETE_CLUSTER, cluster.key, OperationEvent.SUCCEEDED, self._now
            )
            self._actions.again = True
