"""File servers: records, lifecycle and where they are reached."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, select, update
from sqlalchemy import insert as insert_into

from trainshed.resources.lifecycle import ProvisioningEvent, ProvisioningState
from trainshed.store import secrets
from trainshed.store._provisioning import Provisioned
from trainshed.store._statements import first, refused_as, rows_changed
from trainshed.store.encoding import from_json, to_json
from trainshed.store.errors import AlreadyExists, NotFound
from trainshed.store.events import Kind
from trainshed.store.records import FileServerRecord
from trainshed.store.tables import file_servers as table

_provisioned = Provisioned(table, Kind.FILE_SERVER)

_insert = insert_into(table).inline()
_get = select(table).where(table.c.key == bindparam("of"))
_all = select(table).order_by(table.c.key)
_of_workspace = _all.where(table.c.workspace_key == bindparam("workspace_key"))
_page = _of_workspace.where(table.c.key > bindparam("after")).limit(bindparam("limit"))
_changing = _all.where(table.c.state.in_((ProvisioningState.CREATING.value, ProvisioningState.DELETING.value)))
_set_mount = update(table).where(table.c.key == bindparam("of")).values(mount_settings=bindparam("m"))


def insert(tx: Connection, server: FileServerRecord) -> None:
    """Store a new file server. Raises AlreadyExists; the workspace must exist."""
    with refused_as(tx, lambda: AlreadyExists("file server", server.key)):
        tx.execute(
            _insert,
            {
                "key": server.key,
                "workspace_key": server.workspace_key,
                "name": server.name,
                "uid": server.uid,
                "definition": to_json(server.definition),
                "mount_settings": None if server.mount_settings is None else to_json(server.mount_settings),
                "state": server.state.value,
                "state_at": server.state_at,
                "created_at": server.created_at,
                "modified_at": server.modified_at,
            },
        )
    _provisioned.created(tx, server.key, server.state, server.created_at)


def get(tx: Connection, key: str) -> FileServerRecord:
    """Raises NotFound."""
    row = first(tx, _get, {"of": key})
    if row is None:
        raise NotFound("file server", key)
    return _record(row)


def page(tx: Connection, workspace_key: str, after: str | None, limit: int) -> list[FileServerRecord]:
    """File servers of a workspace in the order of their keys, after the key ``after``."""
    rows = tx.execute(_page, {"workspace_key": workspace_key, "after": after or "", "limit": limit})
    return [_record(row) for row in rows]


def of_workspace(tx: Connection, workspace_key: str) -> list[FileServerRecord]:
    """All file servers of a workspace."""
    return [_record(row) for row in tx.execute(_of_workspace, {"workspace_key": workspace_key})]


def all(tx: Connection) -> list[FileServerRecord]:
    """Every file server."""
    return [_record(row) for row in tx.execute(_all)]


def changing(tx: Connection) -> list[FileServerRecord]:
    """Those that are to be provisioned or removed."""
    return [_record(row) for row in tx.execute(_changing)]


def set_mount_settings(tx: Connection, key: str, settings: dict[str, Any]) -> None:
    """Where it is reached: the service's change, not a user's. Raises NotFound."""
    if rows_changed(tx, _set_mount, {"of": key, "m": to_json(settings)}) == 0:
        raise NotFound("file server", key)


def apply(tx: Connection, key: str, event: ProvisioningEvent, now: int) -> FileServerRecord:
    """Change the provisioning state. Raises NotFound, ImpossibleTransition."""
    _provisioned.apply(tx, key, event, now)
    return get(tx, key)


def delete(tx: Connection, key: str) -> None:
    """Forget the file server and its secrets; its directory is somebody else's work. Raises NotFound."""
    server = get(tx, key)
    secrets.delete(tx, server.uid)
    _provisioned.delete(tx, key)


def _record(row: Sequence[Any]) -> FileServerRecord:
    key, workspace_key, name, uid, definition, mount_settings, state, state_at, created_at, modified_at = row
    return FileServerRecord(
        key,
        workspace_key,
        name,
        uid,
        from_json(definition),
        None if mount_settings is None else from_json(mount_settings),
        ProvisioningState(state),
        state_at,
        created_at,
        modified_at,
    )
