"""File servers. The controller has the engine serve a new one, and records where it is reached."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import Connection
from starlette.responses import Response

from trainshed.api import lro
from trainshed.api.answers import JSON, entity, warning
from trainshed.api.call import Call
from trainshed.api.differences import differing
from trainshed.api.errors import ApiError, being_deleted, conflict, not_found, parent_not_found
from trainshed.api.lookup import find
from trainshed.api.paging import page, page_request
from trainshed.api.workspaces import begin_for
from trainshed.api.workspaces import required as required_workspace
from trainshed.resources import ids, parsing
from trainshed.resources.definition import definition, secrets_of
from trainshed.resources.fileserver import subnet_of
from trainshed.resources.ids import Kind
from trainshed.resources.lifecycle import OperationVerb, ProvisioningEvent, ProvisioningState
from trainshed.resources.views import Json, file_server_view
from trainshed.store import file_servers, mounts, secrets, workspaces
from trainshed.store.records import FileServerRecord, OperationRecord, WorkspaceRecord

#: Users of a file server that a refusal names.
_NAMED = 5


async def create(call: Call) -> Response:
    """PUT: 202 for a new one. Again: 200 with the file server as it is; a different one is refused (409)."""
    key, name = _key(call), call.name("fileServer")
    workspace_key, workspace_name = call.workspace_key, call.name("workspace")
    parsed = parsing.parse_file_server(await call.body(), call.version, extra_sizes=call.services.local_sizes)
    wanted, values = definition(parsed.model), secrets_of(parsed.model)
    now = call.now()

    def store(tx: Connection) -> OperationRecord | tuple[WorkspaceRecord, FileServerRecord]:
        workspace = find(workspaces.get, tx, workspace_key)
        if workspace is None:
            raise parent_not_found(Kind.WORKSPACE, workspace_name)
        if workspace.state is ProvisioningState.DELETING:
            raise being_deleted(Kind.WORKSPACE, workspace.name)
        existing = find(file_servers.get, tx, key)
        if existing is not None:
            return workspace, _same(existing, wanted)
        uid = str(uuid.uuid4())
        file_servers.insert(
            tx,
            FileServerRecord(
                key=key,
                workspace_key=workspace_key,
                name=name,
                uid=uid,
                definition=wanted,
                mount_settings=None,
                state=ProvisioningState.CREATING,
                state_at=now,
                created_at=now,
                modified_at=now,
            ),
        )
        if values:
            vault = call.services.vault
            secrets.put(tx, uid, {path: vault.seal_text(value, uid) for path, value in values.items()})
        return begin_for(tx, workspace, OperationVerb.CREATE_FILE_SERVER, key, now, name)

    stored = await call.write(store)
    if isinstance(stored, OperationRecord):
        return lro.accepted(call, stored, warning(parsed.ignored))
    return entity(view(*stored), stored[1].modified_at, parsed.ignored)


async def get(call: Call) -> Response:
    """GET one."""
    key, name = _key(call), call.name("fileServer")
    workspace_key, workspace_name = call.workspace_key, call.name("workspace")

    def query(tx: Connection) -> tuple[WorkspaceRecord, FileServerRecord]:
        workspace = required_workspace(tx, workspace_key, workspace_name)
        record = find(file_servers.get, tx, key)
        if record is None:
            raise not_found(Kind.FILE_SERVER, name)
        return workspace, record

    workspace, record = await call.read(query)
    return entity(view(workspace, record), record.modified_at)


async def list_in_workspace(call: Call) -> Response:
    """GET those of a workspace, in order of their names."""
    workspace_key, workspace_name = call.workspace_key, call.name("workspace")
    asked = page_request(call)

    def query(tx: Connection) -> bytes:
        workspace = required_workspace(tx, workspace_key, workspace_name)
        rows = file_servers.page(tx, workspace_key, asked.after, asked.one_more)
        return page(call, asked, rows, lambda record: view(workspace, record), lambda record: record.key)

    return Response(await call.read(query), media_type=JSON)


async def delete(call: Call) -> Response:
    """DELETE: the controller removes it with its data. Refused (409) while a cluster or an unfinished job mounts it."""
    key, workspace_key = _key(call), call.workspace_key
    call.name("fileServer")
    now = call.now()

    def store(tx: Connection) -> OperationRecord | None:
        workspace, existing = find(workspaces.get, tx, workspace_key), find(file_servers.get, tx, key)
        if workspace is None or existing is None:
            return None
        if existing.state is not ProvisioningState.DELETING:
            _refuse_in_use(tx, existing)
            file_servers.apply(tx, key, ProvisioningEvent.DELETE_REQUESTED, now)
        return begin_for(tx, workspace, OperationVerb.DELETE_FILE_SERVER, key, now, existing.name)

    operation = await call.write(store)
    return Response(status_code=204) if operation is None else lro.accepted(call, operation)


def view(workspace: WorkspaceRecord, record: FileServerRecord) -> Json:
    """The file server's JSON. Its subnet is there once it is provisioned, as in the original."""
    shown = record.definition
    if record.mount_settings is not None:
        shown = {**shown, "subnet": {"id": subnet_of(shown, workspace.subscription, record.uid)}}
    return file_server_view(
        subscription=workspace.subscription,
        resource_group=workspace.resource_group,
        workspace=workspace.name,
        name=record.name,
        definition=shown,
        state=record.state.value,
        state_at=record.state_at,
        created_at=record.created_at,
        mount_settings=record.mount_settings,
    )


def _same(existing: FileServerRecord, wanted: dict[str, Any]) -> FileServerRecord:
    if existing.state is ProvisioningState.DELETING:
        raise being_deleted(Kind.FILE_SERVER, existing.name)
    differences = differing(existing.definition, wanted)
    if differences:
        raise conflict(
            Kind.FILE_SERVER,
            existing.name,
            differences,
            "A file server cannot be changed. Send its properties as they are, use another name, or delete it first.",
        )
    return existing


def _refuse_in_use(tx: Connection, record: FileServerRecord) -> None:
    users = mounts.users_of_file_server(tx, record.key)
    if users:
        named = ", ".join(users[:_NAMED]) + (f" and {len(users) - _NAMED} more" if len(users) > _NAMED else "")
        raise ApiError(
            409,
            "FileServerInUse",
            f"The file server '{record.name}' cannot be deleted while it is mounted by {named}. Delete these clusters "
            "first, and wait for these jobs to end or terminate them.",
            target="fileServerName",
        )


def _key(call: Call) -> str:
    return ids.file_server_key(call.workspace_key, call.name("fileServer"))
