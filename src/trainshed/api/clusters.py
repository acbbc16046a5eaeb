"""Clusters: nodes of one size. The controller provisions them and brings their nodes to what scaleSettings ask for."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import Connection
from starlette.responses import Response

from trainshed.api import first_use, lro, quota
from trainshed.api.answers import JSON, entity, warning
from trainshed.api.call import Call
from trainshed.api.differences import differing
from trainshed.api.errors import being_deleted, conflict, not_found, parent_not_found
from trainshed.api.lookup import find
from trainshed.api.members import keep_newer_scale, original_cluster, original_scale
from trainshed.api.mounted import fill_subnet, keep_subnet
from trainshed.api.paging import page, page_request
from trainshed.api.references import unresolved
from trainshed.api.uses import require_file_servers
from trainshed.api.workspaces import begin_for
from trainshed.api.workspaces import required as required_workspace
from trainshed.resources import parsing
from trainshed.resources.cluster import engine_of
from trainshed.resources.definition import definition, secrets_of
from trainshed.resources.directories import setup_segment
from trainshed.resources.engines import DEFAULT_ENGINE
from trainshed.resources.ids import Kind
from trainshed.resources.lifecycle import (
    AllocationEvent,
    AllocationState,
    OperationVerb,
    ProvisioningEvent,
    ProvisioningState,
)
from trainshed.resources.reasons import Reason
from trainshed.resources.views import Json, cluster_view
from trainshed.store import clusters, nodes, secrets, workspaces
from trainshed.store.records import ClusterRecord, OperationRecord, WorkspaceRecord

_SCALE = "scaleSettings"
#: Node ids named with a reason.
_NAMED_NODES = 10


async def create(call: Call) -> Response:
    """PUT: 202 for a new one. Again: 200; another scaleSettings is an update, any other difference is refused (409).

    Beyond the quota of clusters or cores: 409.
    """
    key, name = call.cluster_key, call.name("cluster")
    workspace_key, workspace_name = call.workspace_key, call.name("workspace")
    parsed = parsing.parse_cluster(
        await call.body(),
        call.version,
        extra_sizes=call.services.local_sizes,
        engines=call.services.cluster_options,
    )
    wanted, values = definition(parsed.model), secrets_of(parsed.model)
    if engine_of(wanted) == DEFAULT_ENGINE:
        wanted.pop("engine", None)
    require_file_servers(call, (wanted.get("nodeSetup") or {}).get("mountVolumes"))
    problem = await unresolved(call, wanted)
    scale = wanted.pop(_SCALE)
    now = call.now()

    places: tuple[first_use.Place, ...] = ()

    def store(tx: Connection) -> OperationRecord | tuple[int, Json]:
        nonlocal places
        workspace = find(workspaces.get, tx, workspace_key)
        if workspace is None:
            raise parent_not_found(Kind.WORKSPACE, workspace_name)
        if workspace.state is ProvisioningState.DELETING:
            raise being_deleted(Kind.WORKSPACE, workspace.name)
        existing = find(clusters.get, tx, key)
        if existing is None:
            if problem is not None:
                raise problem
            uid = str(uuid.uuid4())
            fill_subnet(tx, wanted)
            quota.check_new_cluster(tx, call, workspace, wanted, scale)
            volumes = (wanted.get("nodeSetup") or {}).get("mountVolumes")
            places = first_use.places_of(tx, call.services.vault, volumes, values, "/nodeSetup/mountVolumes")
            clusters.insert(
                tx,
                ClusterRecord(
                    key=key,
                    workspace_key=workspace_key,
                    name=name,
                    uid=uid,
                    pool=clusters.next_pool(tx),
                    engine=engine_of(wanted),
                    vm_size=wanted["vmSize"],
                    definition=wanted,
                    scale=scale,
                    state=ProvisioningState.CREATING,
                    state_at=now,
                    allocation=AllocationState.RESIZING,
                    allocation_at=now,
                    errors=(),
                    created_at=now,
                    modified_at=now,
                ),
            )
            if values:
                vault = call.services.vault
                secrets.put(tx, uid, {path: vault.seal_text(value, uid) for path, value in values.items()})
            return begin_for(tx, workspace, OperationVerb.CREATE_CLUSTER, key, now, name)
        if existing.state is ProvisioningState.DELETING:
            raise being_deleted(Kind.CLUSTER, existing.name)
        keep_subnet(existing.definition, wanted)
        known = existing.definition if call.newer else original_cluster(existing.definition)
        differences = differing(known, wanted)
        if differences:
            raise conflict(
                Kind.CLUSTER,
                existing.name,
                differences,
                "Only scaleSettings of a cluster can be changed. Send the other properties as they are, use another "
                "name, or delete the cluster first.",
            )
        new_scale = scale if call.newer else keep_newer_scale(existing.scale, scale)
        quota.check_rescale(tx, call, workspace, existing, new_scale)
        shown = _view_of(tx, workspace, existing, newer=call.newer, scale=new_scale)
        _rescale(tx, existing, new_scale, now)
        return now, shown

    stored = await call.write(store)
    if isinstance(stored, OperationRecord):
        await first_use.make(call, places)
        return lro.accepted(call, stored, warning(parsed.ignored))
    return entity(stored[1], stored[0], parsed.ignored)


async def update(call: Call) -> Response:
    """PATCH: 200 at once with the new scaleSettings and the allocation as it was (rest-contract section 7).

    More nodes than the quota leaves: 409.
    """
    key, name = call.cluster_key, call.name("cluster")
    parsed = parsing.parse_cluster_update(await call.body(), call.version)
    properties = parsed.model.properties
    scale: dict[str, Any] | None = None
    if properties is not None and properties.scale_settings is not None:
        scale = definition(parsed.model)[_SCALE]
    now = call.now()

    def store(tx: Connection) -> tuple[int, Json]:
        workspace, existing = _with_workspace(tx, call, key, name)
        if existing.state is ProvisioningState.DELETING:
            raise being_deleted(Kind.CLUSTER, existing.name)
        if scale is None:
            return existing.modified_at, _view_of(tx, workspace, existing, newer=call.newer)
        new_scale = scale if call.newer else keep_newer_scale(existing.scale, scale)
        quota.check_rescale(tx, call, workspace, existing, new_scale)
        shown = _view_of(tx, workspace, existing, newer=call.newer, scale=new_scale)
        _rescale(tx, existing, new_scale, now)
        return now, shown

    modified_at, shown = await call.write(store)
    return entity(shown, modified_at, parsed.ignored)


async def get(call: Call) -> Response:
    """GET one."""
    key, name = call.cluster_key, call.name("cluster")

    def query(tx: Connection) -> tuple[int, Json]:
        workspace, record = _with_workspace(tx, call, key, name)
        return record.modified_at, _view_of(tx, workspace, record, newer=call.newer)

    modified_at, shown = await call.read(query)
    return entity(shown, modified_at)


async def list_in_workspace(call: Call) -> Response:
    """GET those of a workspace, in order of their names."""
    workspace_key, workspace_name = call.workspace_key, call.name("workspace")
    asked = page_request(call)

    def query(tx: Connection) -> bytes:
        workspace = required_workspace(tx, workspace_key, workspace_name)
        rows = clusters.page(tx, workspace_key, asked.after, asked.one_more)
        return page(
            call,
            asked,
            rows,
            lambda record: _view_of(tx, workspace, record, newer=call.newer),
            lambda record: record.key,
        )

    return Response(await call.read(query), media_type=JSON)


async def delete(call: Call) -> Response:
    """DELETE: the controller ends what runs on it, removes its nodes, then the cluster. Jobs and files stay."""
    key, workspace_key = call.cluster_key, call.workspace_key
    now = call.now()

    def store(tx: Connection) -> OperationRecord | None:
        workspace, existing = find(workspaces.get, tx, workspace_key), find(clusters.get, tx, key)
        if workspace is None or existing is None:
            return None
        if existing.state is not ProvisioningState.DELETING:
            clusters.apply_provisioning(tx, key, ProvisioningEvent.DELETE_REQUESTED, now)
        return begin_for(tx, workspace, OperationVerb.DELETE_CLUSTER, key, now, existing.name)

    operation = await call.write(store)
    return Response(status_code=204) if operation is None else lro.accepted(call, operation)


def required(tx: Connection, key: str, name: str) -> ClusterRecord:
    """The cluster. Raises ApiError 404."""
    record = find(clusters.get, tx, key)
    if record is None:
        raise not_found(Kind.CLUSTER, name)
    return record


def _with_workspace(tx: Connection, call: Call, key: str, name: str) -> tuple[WorkspaceRecord, ClusterRecord]:
    workspace = required_workspace(tx, call.workspace_key, call.name("workspace"))
    return workspace, required(tx, key, name)


def _rescale(tx: Connection, existing: ClusterRecord, scale: dict[str, Any], now: int) -> None:
    clusters.set_scale(tx, existing.key, scale, now)
    # In the same transaction, so that nobody who changed the size reads "steady" before the controller has acted.
    if existing.allocation is AllocationState.STEADY and scale != existing.scale:
        clusters.apply_allocation(tx, existing.key, AllocationEvent.RESIZE_STARTED, now)


def _view_of(
    tx: Connection,
    workspace: WorkspaceRecord,
    record: ClusterRecord,
    *,
    newer: bool,
    scale: dict[str, Any] | None = None,
) -> Json:
    scale = record.scale if scale is None else scale
    return cluster_view(
        subscription=workspace.subscription,
        resource_group=workspace.resource_group,
        workspace=workspace.name,
        name=record.name,
        definition=record.definition if newer else original_cluster(record.definition),
        scale=scale if newer else original_scale(scale),
        state=record.state.value,
        state_at=record.state_at,
        allocation=record.allocation.value,
        allocation_at=record.allocation_at,
        created_at=record.created_at,
        node_counts=clusters.node_counts(tx, record.uid),
        errors=[reason.to_batchai_error() for reason in record.errors],
        setup_suffix=setup_segment(
            workspace.subscription, workspace.resource_group, workspace.name, record.name, record.uid
        ),
        extra=_node_reasons(tx, record) if newer else None,
    )


def _node_reasons(tx: Connection, record: ClusterRecord) -> Json:
    """2026-11-01: why nodes cannot take jobs, each reason once with how many nodes it concerns."""
    concerned: dict[tuple[str, str], tuple[Reason, list[str]]] = {}
    for node in nodes.of_cluster(tx, record.uid):
        if node.reason is not None:
            entry = concerned.setdefault((node.reason.code.value, node.reason.text), (node.reason, []))
            entry[1].append(node.id)
    if not concerned:
        return {}
    return {
        "nodeReasons": [
            {**reason.to_batchai_error(), "count": len(ids), "nodes": ids[:_NAMED_NODES]}
            for reason, ids in concerned.values()
        ]
    }
