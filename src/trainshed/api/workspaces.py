"""Workspaces: the top container. Creating one is done at once; deleting it takes everything in it along."""

from __future__ import annotations

from sqlalchemy import Connection
from starlette.responses import Response

from trainshed.api import groups, lro
from trainshed.api.answers import JSON, entity
from trainshed.api.authorization import visible
from trainshed.api.call import Call
from trainshed.api.errors import being_deleted, conflict, not_found
from trainshed.api.lookup import find
from trainshed.api.paging import page, page_request
from trainshed.identity import Scope
from trainshed.resources import parsing
from trainshed.resources.ids import Kind, operation_resource_id, resource_group_key
from trainshed.resources.lifecycle import (
    OperationVerb,
    ProvisioningEvent,
    ProvisioningState,
)
from trainshed.resources.names import normal_location
from trainshed.resources.views import Json, workspace_view
from trainshed.store import resource_groups, workspaces
from trainshed.store.records import OperationRecord, WorkspaceRecord

_READ = "Microsoft.BatchAI/workspaces/read"


async def create(call: Call) -> Response:
    """PUT: 200 at once, new or not. Again with other tags replaces them; another location is refused with 409.

    The first workspace of a resource group that is not there makes the group, in its own location.
    """
    key, name = call.workspace_key, call.name("workspace")
    parsed = parsing.parse_workspace(await call.body(), call.version)
    location, tags = parsed.model.location, dict(parsed.model.tags or {})
    group_key = resource_group_key(call.subscription, call.group)
    now = call.now()

    def store(tx: Connection) -> WorkspaceRecord:
        existing = find(workspaces.get, tx, key)
        if existing is None:
            if find(resource_groups.get, tx, group_key) is None:
                groups.insert(tx, call.subscription, call.group, location, {}, now)
            groups.opened(tx, group_key, call.group)
            made = WorkspaceRecord(
                key, call.subscription, call.group, name, location, tags, ProvisioningState.SUCCEEDED, now, now, now
            )
            workspaces.insert(tx, made)
            return made
        if existing.state is ProvisioningState.DELETING:
            raise being_deleted(Kind.WORKSPACE, existing.name)
        if normal_location(existing.location) != normal_location(location):
            raise conflict(
                Kind.WORKSPACE,
                existing.name,
                ["location"],
                f"It is in '{existing.location}', and a workspace cannot move. Use that location or another name.",
            )
        if existing.tags != tags:
            workspaces.set_tags(tx, key, tags, now)
        return required(tx, key, name)

    record = await call.write(store)
    return entity(view(record), record.modified_at, parsed.ignored)


async def update(call: Call) -> Response:
    """PATCH: the tags given replace those that were; without tags nothing changes."""
    key, name = call.workspace_key, call.name("workspace")
    parsed = parsing.parse_workspace_update(await call.body(), call.version)
    tags = parsed.model.tags
    now = call.now()

    def store(tx: Connection) -> WorkspaceRecord:
        existing = required(tx, key, name)
        if existing.state is ProvisioningState.DELETING:
            raise being_deleted(Kind.WORKSPACE, existing.name)
        if tags is None:
            return existing
        workspaces.set_tags(tx, key, dict(tags), now)
        return required(tx, key, name)

    record = await call.write(store)
    return entity(view(record), record.modified_at, parsed.ignored)


async def get(call: Call) -> Response:
    """GET one."""
    key, name = call.workspace_key, call.name("workspace")
    record = await call.read(lambda tx: required(tx, key, name))
    return entity(view(record), record.modified_at)


async def list_in_group(call: Call) -> Response:
    """GET those of a resource group, in order of their names."""
    return await _list(call, call.subscription, call.group)


async def list_in_subscription(call: Call) -> Response:
    """GET those of a subscription, in order of group and name."""
    return await _list(call, call.subscription, None)


async def delete(call: Call) -> Response:
    """DELETE: the controller stops and removes everything below it, then the workspace."""
    key = call.workspace_key
    now = call.now()

    def store(tx: Connection) -> OperationRecord | None:
        existing = find(workspaces.get, tx, key)
        if existing is None:
            return None
        if existing.state is not ProvisioningState.DELETING:
            workspaces.apply(tx, key, ProvisioningEvent.DELETE_REQUESTED, now)
        return begin_for(tx, existing, OperationVerb.DELETE_WORKSPACE, key, now)

    operation = await call.write(store)
    return Response(status_code=204) if operation is None else lro.accepted(call, operation)


def view(record: WorkspaceRecord) -> Json:
    """The workspace's JSON."""
    return workspace_view(
        subscription=record.subscription,
        resource_group=record.resource_group,
        name=record.name,
        location=record.location,
        tags=record.tags,
        state=record.state.value,
        state_at=record.state_at,
        created_at=record.created_at,
    )


def required(tx: Connection, key: str, name: str) -> WorkspaceRecord:
    """The workspace. Raises ApiError 404."""
    record = find(workspaces.get, tx, key)
    if record is None:
        raise not_found(Kind.WORKSPACE, name)
    return record


def begin_for(
    tx: Connection,
    workspace: WorkspaceRecord,
    verb: OperationVerb,
    resource_key: str,
    now: int,
    *names: str,
    done: bool = False,
) -> OperationRecord:
    """Record an operation on a workspace, or on what ``names`` name in it."""
    return lro.begin(
        tx,
        subscription=workspace.subscription,
        location=workspace.location,
        resource_id=operation_resource_id(workspace.subscription, workspace.resource_group, workspace.name, *names),
        verb=verb,
        resource_key=resource_key,
        now=now,
        done=done,
    )


def scope_of(record: WorkspaceRecord) -> Scope:
    """Where roles for the workspace count."""
    return Scope(record.subscription, record.resource_group, record.name)


async def _list(call: Call, subscription: str, group: str | None) -> Response:
    asked = page_request(call)

    def query(tx: Connection) -> bytes:
        rows = visible(
            lambda after: workspaces.page(
                tx, subscription=subscription, resource_group=group, after=after, limit=asked.one_more
            ),
            lambda record: record.key,
            lambda record: call.caller.may(_READ, scope_of(record).key),
            asked.after,
            asked.one_more,
        )
        return page(call, asked, rows, view, lambda record: record.key)

    return Response(await call.read(query), media_type=JSON)
