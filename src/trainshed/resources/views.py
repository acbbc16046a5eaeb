"""The contract's JSON of each resource, in the contract's order of properties (rest-contract section 6).

Values come in as plain ones: times as Unix milliseconds, definitions as ``definition()`` gave them. What is absent is
left out, never ``null``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from trainshed.resources.exports import of_the_contract
from trainshed.resources.ids import Kind, ResourceId
from trainshed.resources.times import format_time, format_time_seconds
from trainshed.resources.toolsettings import TOOL_TYPES

Json = dict[str, Any]

_JOB_BEFORE = ("schedulingPriority", "cluster")
_JOB_AFTER = (
    "jobPreparation",
    "stdOutErrPathPrefix",
    "inputDirectories",
    "outputDirectories",
    "environmentVariables",
    "secrets",
    "constraints",
    "codeSnapshot",
    "retryPolicy",
    "preemption",
    "dependsOn",
)
_CLUSTER_TAIL = (
    "virtualMachineConfiguration",
    "userAccountSettings",
    "nodeSetup",
    "subnet",
    "backfill",
    "preemption",
    "engine",
)
_NODE_COUNTS = ("running", "idle", "unusable", "preparing", "leaving")


def _envelope(resource: ResourceId, properties: Json) -> Json:
    return {"id": str(resource), "name": resource.name, "type": resource.kind.type, "properties": properties}


def _provisioning(created_at: int, state: str, state_at: int) -> Json:
    return {
        "creationTime": format_time(created_at),
        "provisioningState": state,
        "provisioningStateTransitionTime": format_time(state_at),
    }


def list_view(values: Iterable[Json], next_link: str | None = None) -> Json:
    """A page: ``nextLink`` only when there is a further one."""
    page: Json = {"value": list(values)}
    if next_link is not None:
        page["nextLink"] = next_link
    return page


def workspace_view(
    *,
    subscription: str,
    resource_group: str,
    name: str,
    location: str,
    tags: Mapping[str, str],
    state: str,
    state_at: int,
    created_at: int,
) -> Json:
    """A workspace; empty tags are left out."""
    view: Json = {
        "id": str(ResourceId(subscription, resource_group, name)),
        "name": name,
        "type": Kind.WORKSPACE.type,
        "location": location,
    }
    if tags:
        view["tags"] = dict(tags)
    view["properties"] = _provisioning(created_at, state, state_at)
    return view


def experiment_view(
    *, subscription: str, resource_group: str, workspace: str, name: str, state: str, state_at: int, created_at: int
) -> Json:
    """An experiment."""
    resource = ResourceId(subscription, resource_group, workspace, Kind.EXPERIMENT, name)
    return _envelope(resource, _provisioning(created_at, state, state_at))


def cluster_view(
    *,
    subscription: str,
    resource_group: str,
    workspace: str,
    name: str,
    definition: Mapping[str, Any],
    scale: Mapping[str, Any],
    state: str,
    state_at: int,
    allocation: str,
    allocation_at: int,
    created_at: int,
    node_counts: Mapping[str, int],
    errors: Sequence[Mapping[str, Any]] = (),
    setup_suffix: str | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Json:
    """A cluster. ``node_counts`` by state: running, idle, unusable, preparing, leaving (absent = 0).

    ``scale`` is scaleSettings now in force; ``errors`` are BatchAIErrors; ``setup_suffix`` is stdOutErrPathSuffix;
    ``extra`` are properties of the newer version.
    """
    counts = {state_name: node_counts.get(state_name, 0) for state_name in _NODE_COUNTS}
    properties: Json = {
        "provisioningState": state,
        "allocationState": allocation,
        "creationTime": format_time(created_at),
        "allocationStateTransitionTime": format_time(allocation_at),
        "provisioningStateTransitionTime": format_time(state_at),
        "vmSize": definition["vmSize"],
        "currentNodeCount": sum(counts.values()),
        "nodeStateCounts": {f"{state_name}NodeCount": count for state_name, count in counts.items()},
        "vmPriority": definition["vmPriority"],
        "scaleSettings": dict(scale),
    }
    if errors:
        properties["errors"] = [dict(error) for error in errors]
    for member in _CLUSTER_TAIL:
        if member in definition:
            properties[member] = definition[member]
    setup = properties.get("nodeSetup") or {}
    if setup_suffix is not None and setup.get("setupTask") is not None:
        task = {**setup["setupTask"], "stdOutErrPathSuffix": setup_suffix}
        properties["nodeSetup"] = {**setup, "setupTask": task}
    properties |= extra or {}
    return _envelope(ResourceId(subscription, resource_group, workspace, Kind.CLUSTER, name), properties)


def file_server_view(
    *,
    subscription: str,
    resource_group: str,
    workspace: str,
    name: str,
    definition: Mapping[str, Any],
    state: str,
    state_at: int,
    created_at: int,
    mount_settings: Mapping[str, Any] | None = None,
) -> Json:
    """A file server; ``mount_settings`` is absent until it has addresses."""
    properties: Json = {
        member: definition[member]
        for member in ("vmSize", "sshConfiguration", "dataDisks", "subnet")
        if member in definition
    }
    if mount_settings:
        properties["mountSettings"] = of_the_contract(mount_settings)
    properties |= _provisioning(created_at, state, state_at)
    return _envelope(ResourceId(subscription, resource_group, workspace, Kind.FILE_SERVER, name), properties)


def execution_info(
    *,
    execution_state: str,
    started_at: int | None,
    ended_at: int | None,
    exit_code: int | None,
    errors: Sequence[Mapping[str, Any]] = (),
) -> Json | None:
    """executionInfo: absent while queued; startTime only while it runs; then endTime, exitCode and errors.

    exitCode is absent where there is none (terminated jobs), errors where there are none (success); an unfinished
    job shows the most recent start.
    """
    if execution_state == "queued" or (started_at is None and ended_at is None):
        return None
    info: Json = {}
    if started_at is not None:
        info["startTime"] = format_time(started_at)
    if execution_state in ("succeeded", "failed"):
        if ended_at is not None:
            info["endTime"] = format_time(ended_at)
        if exit_code is not None:
            info["exitCode"] = exit_code
        if errors:
            info["errors"] = [dict(error) for error in errors]
    return info


def job_view(
    *,
    subscription: str,
    resource_group: str,
    workspace: str,
    experiment: str,
    name: str,
    definition: Mapping[str, Any],
    segment: str,
    state: str,
    state_at: int,
    execution_state: str,
    execution_at: int,
    created_at: int,
    started_at: int | None = None,
    ended_at: int | None = None,
    exit_code: int | None = None,
    errors: Sequence[Mapping[str, Any]] = (),
    extra: Mapping[str, Any] | None = None,
    tool_type: str | None = None,
) -> Json:
    """A job. ``errors`` are BatchAIErrors; ``extra`` are properties of the newer version.

    ``tool_type`` is of a job whose toolkit's settings this version does not show.
    """
    properties: Json = {"experimentName": experiment}
    properties |= {member: definition[member] for member in _JOB_BEFORE if member in definition}
    properties["jobOutputDirectoryPathSegment"] = segment
    properties["nodeCount"] = definition["nodeCount"]
    for member in ("containerSettings", "mountVolumes"):
        if member in definition:
            properties[member] = definition[member]
    if tool_type is not None:
        properties["toolType"] = tool_type
    for member, own_type in TOOL_TYPES.items():
        if member in definition:
            properties["toolType"] = own_type
            properties[member] = definition[member]
    properties |= {member: definition[member] for member in _JOB_AFTER if member in definition}
    properties |= _provisioning(created_at, state, state_at)
    properties["executionState"] = execution_state
    properties["executionStateTransitionTime"] = format_time(execution_at)
    info = execution_info(
        execution_state=execution_state,
        started_at=started_at,
        ended_at=ended_at,
        exit_code=exit_code,
        errors=errors,
    )
    if info is not None:
        properties["executionInfo"] = info
    properties |= extra or {}
    return _envelope(ResourceId(subscription, resource_group, workspace, Kind.JOB, experiment, name), properties)


def job_array_view(
    *,
    subscription: str,
    resource_group: str,
    workspace: str,
    experiment: str,
    name: str,
    definition: Mapping[str, Any],
    created_at: str,
    counts: Mapping[str, int],
) -> Json:
    """A job array: what was asked for, and how many of its jobs are in which state."""
    parent = ResourceId(subscription, resource_group, workspace, Kind.EXPERIMENT, experiment)
    return {
        "id": f"{parent}/jobArrays/{name}",
        "name": name,
        "type": f"{Kind.EXPERIMENT.type}/jobArrays",
        "properties": {
            **definition,
            "creationTime": created_at,
            "jobCount": sum(counts.values()),
            "jobCounts": dict(counts),
        },
    }


def remote_login_view(*, node_id: str, ip_address: str, port: int) -> Json:
    """How to reach a node by SSH."""
    return {"nodeId": node_id, "ipAddress": ip_address, "port": port}


def file_view(*, name: str, download_url: str, modified_at: int, size: int) -> Json:
    """A file of an output directory; its time in whole seconds."""
    properties = {"lastModified": format_time_seconds(modified_at), "contentLength": size}
    return {"name": name, "fileType": "file", "downloadUrl": download_url, "properties": properties}


def directory_view(*, name: str) -> Json:
    """A folder of an output directory: it has neither link nor properties."""
    return {"name": name, "fileType": "directory"}


def operation_view(
    *,
    id_url: str,
    name: str,
    status: str,
    started_at: int,
    ended_at: int | None = None,
    resource_id: str | None = None,
    error: Mapping[str, Any] | None = None,
) -> Json:
    """The state of a long-running operation (rest-contract section 3). ``id_url`` is absolute, without a query."""
    view: Json = {"id": id_url, "name": name, "status": status, "startTime": format_time(started_at)}
    if ended_at is not None:
        view["endTime"] = format_time(ended_at)
    if resource_id is not None and status == "Succeeded":
        view["properties"] = {"resourceId": resource_id}
    if error is not None:
        view["error"] = dict(error)
    return view
