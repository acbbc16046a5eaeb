"""Experiments: named groups of jobs. Creating one is done at once; deleting it takes its jobs along."""

from __future__ import annotations

from sqlalchemy import Connection
from starlette.responses import Response

from trainshed.api import lro
from trainshed.api.answers import JSON, entity
from trainshed.api.call import Call
from trainshed.api.errors import being_deleted, not_found, parent_not_found
from trainshed.api.lookup import find
from trainshed.api.paging import page, page_request
from trainshed.api.workspaces import begin_for
from trainshed.api.workspaces import required as required_workspace
from trainshed.resources import parsing
from trainshed.resources.ids import Kind
from trainshed.resources.lifecycle import (
    OperationVerb,
    ProvisioningEvent,
    ProvisioningState,
)
from trainshed.resources.views import Json, experiment_view
from trainshed.store import experiments, workspaces
from trainshed.store.records import ExperimentRecord, OperationRecord, WorkspaceRecord


async def create(call: Call) -> Response:
    """PUT: 200 at once; again changes nothing."""
    key, name = call.experiment_key, call.name("experiment")
    workspace_key, workspace_name = call.workspace_key, call.name("workspace")
    parsed = parsing.parse_experiment(await call.body(), call.version)
    now = call.now()

    def store(tx: Connection) -> tuple[WorkspaceRecord, ExperimentRecord]:
        workspace = find(workspaces.get, tx, workspace_key)
        if workspace is None:
            raise parent_not_found(Kind.WORKSPACE, workspace_name)
        if workspace.state is ProvisioningState.DELETING:
            raise being_deleted(Kind.WORKSPACE, workspace.name)
        existing = find(experiments.get, tx, key)
        if existing is None:
            made = ExperimentRecord(key, workspace_key, name, ProvisioningState.SUCCEEDED, now, now, now)
            experiments.insert(tx, made)
            return workspace, made
        if existing.state is ProvisioningState.DELETING:
            raise being_deleted(Kind.EXPERIMENT, existing.name)
        return workspace, existing

    workspace, record = await call.write(store)
    return entity(view(workspace, record), record.modified_at, parsed.ignored)


async def get(call: Call) -> Response:
    """GET one."""
    key, name = call.experiment_key, call.name("experiment")
    workspace_key, workspace_name = call.workspace_key, call.name("workspace")

    def query(tx: Connection) -> tuple[WorkspaceRecord, ExperimentRecord]:
        workspace = required_workspace(tx, workspace_key, workspace_name)
        return workspace, required(tx, key, name)

    workspace, record = await call.read(query)
    return entity(view(workspace, record), record.modified_at)


async def list_in_workspace(call: Call) -> Response:
    """GET those of a workspace, in order of their names."""
    workspace_key, workspace_name = call.workspace_key, call.name("workspace")
    asked = page_request(call)

    def query(tx: Connection) -> bytes:
        workspace = required_workspace(tx, workspace_key, workspace_name)
        rows = experiments.page(tx, workspace_key, asked.after, asked.one_more)
        return page(call, asked, rows, lambda record: view(workspace, record), lambda record: record.key)

    return Response(await call.read(query), media_type=JSON)


async def delete(call: Call) -> Response:
    """DELETE: the controller ends and removes its jobs, then the experiment. Files stay where they are."""
    key, workspace_key = call.experiment_key, call.workspace_key
    now = call.now()

    def store(tx: Connection) -> OperationRecord | None:
        workspace, existing = find(workspaces.get, tx, workspace_key), find(experiments.get, tx, key)
        if workspace is None or existing is None:
            return None
        if existing.state is not ProvisioningState.DELETING:
            experiments.apply(tx, key, ProvisioningEvent.DELETE_REQUESTED, now)
        return begin_for(tx, workspace, OperationVerb.DELETE_EXPERIMENT, key, now, existing.name)

    operation = await call.write(store)
    return Response(status_code=204) if operation is None else lro.accepted(call, operation)


def view(workspace: WorkspaceRecord, record: ExperimentRecord) -> Json:
    """The experiment's JSON."""
    return experiment_view(
        subscription=workspace.subscription,
        resource_group=workspace.resource_group,
        workspace=workspace.name,
        name=record.name,
        state=record.state.value,
        state_at=record.state_at,
        created_at=record.created_at,
    )


def required(tx: Connection, key: str, name: str) -> ExperimentRecord:
    """The experiment. Raises ApiError 404."""
    record = find(experiments.get, tx, key)
    if record is None:
        raise not_found(Kind.EXPERIMENT, name)
    return record
