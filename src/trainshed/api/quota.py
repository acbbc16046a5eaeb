"""Quotas at the door: what a change of a cluster or a new job may ask for. Checked in the change's own transaction.

More clusters, and more nodes than are left for a size, are refused with 409, Azure Resource Manager's status for
quotas. What a cluster may grow to by itself is not refused: the controller stops it at the quota and says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from trainshed.api.call import Call
from trainshed.api.errors import ApiError
from trainshed.resources.cluster import engine_of
from trainshed.resources.engines import DEFAULT_ENGINE
from trainshed.resources.errors import Problem
from trainshed.resources.quotas import ClusterUse, Excess, promised_nodes
from trainshed.resources.vmsizes import VmSize, find_size
from trainshed.store.records import ClusterRecord, WorkspaceRecord
from trainshed.store.usages import Region, of_region

_TYPE = "Microsoft.BatchAI/clusters"


def check_new_cluster(
    tx: Connection, call: Call, workspace: WorkspaceRecord, definition: Mapping[str, Any], scale: Mapping[str, Any]
) -> None:
    """Raises ApiError 409 when one more cluster, or the nodes that it begins with, cannot be had.

    Cores are those of the service's own machine: other engines have limits of their own.
    """
    uses = of_region(tx, Region.of(workspace.subscription, workspace.location))
    excess = call.services.quotas.limits(workspace.subscription).clusters_excess(uses)
    if excess is not None:
        raise ApiError(
            409,
            "ClusterQuotaReached",
            f"Operation results in exceeding quota limits of {_TYPE}. Maximum allowed: {excess.limit}, Current in use: "
            f"{excess.in_use}. Please contact support to increase the quota for resource type {_TYPE}",
            details=[_where(excess, workspace)],
        )
    if engine_of(definition) != DEFAULT_ENGINE:
        return
    initial = scale.get("autoScale", {}).get("initialNodeCount", 0)
    wanted = max(initial, promised_nodes(scale))
    _check_cores(call, workspace, uses, definition["vmSize"], definition["vmPriority"], wanted)


def check_rescale(
    tx: Connection, call: Call, workspace: WorkspaceRecord, cluster: ClusterRecord, scale: Mapping[str, Any]
) -> None:
    """Raises ApiError 409 when a cluster is to have more nodes than the quota leaves it. Fewer are always allowed."""
    if cluster.engine != DEFAULT_ENGINE:
        return
    wanted = promised_nodes(scale)
    uses = of_region(tx, Region.of(workspace.subscription, workspace.location))
    own = next((use for use in uses if use.key == cluster.key), None)
    if own is not None and wanted <= own.reserved:
        return
    others = [use for use in uses if use.key != cluster.key]
    _check_cores(call, workspace, others, cluster.vm_size, cluster.definition.get("vmPriority", "dedicated"), wanted)


def check_job(call: Call, subscription: str, cluster: ClusterRecord, node_count: int) -> None:
    """Raises ApiError 409 for a gang that would not fit the quota even if nobody else had a node."""
    size = find_size(cluster.vm_size, call.services.local_sizes)
    if size is None or cluster.engine != DEFAULT_ENGINE:
        return
    priority = cluster.definition.get("vmPriority", "dedicated")
    limits = call.services.quotas.limits(subscription)
    excess = limits.cores_excess((), size, priority, node_count, call.services.local_sizes)
    if excess is not None:
        raise ApiError(
            409,
            "JobNodeCountExceedsCoreQuota",
            f"The job asks for {node_count} nodes of {size.name}, which are {excess.requested} cores; the quota "
            f"'{excess.name}' allows {excess.limit}. Ask for at most {excess.limit // size.cores} nodes, use a "
            "cluster of a smaller size, or have the quota increased.",
            target="properties.nodeCount",
        )


def _check_cores(
    call: Call, workspace: WorkspaceRecord, others: list[ClusterUse], vm_size: str, priority: str, nodes: int
) -> None:
    sizes: Mapping[str, VmSize] = call.services.local_sizes
    size = find_size(vm_size, sizes)
    if size is None:
        return
    limits = call.services.quotas.limits(workspace.subscription)
    excess = limits.cores_excess(others, size, priority, nodes, sizes)
    if excess is not None:
        raise ApiError(
            409,
            "ClusterCoreQuotaReached",
            f"Operation results in exceeding quota limits of {excess.name}. Maximum allowed: {excess.limit}, Current "
            f"in use: {excess.in_use}, Additional requested: {excess.requested}. There is room for "
            f"{excess.left // size.cores} nodes of {size.name}: ask for fewer, scale other clusters down, or have the "
            "quota increased.",
            target="properties.scaleSettings",
            details=[_where(excess, workspace)],
        )


def _where(excess: Excess, workspace: WorkspaceRecord) -> Problem:
    return Problem(
        "QuotaLimit",
        f"'{excess.name}' of subscription {workspace.subscription} in region {workspace.location}: {excess.left} left. "
        "An administrator sets limits in quotas.json in the service's home directory.",
    )
