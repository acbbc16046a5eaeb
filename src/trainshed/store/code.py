"""Code snapshots: which files, by their content's digest, a job's code consists of. Each workspace has its own."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select

from trainshed.store._statements import first
from trainshed.store.encoding import from_json, to_json
from trainshed.store.tables import code_snapshots as table

_insert = insert(table).inline()
_of_workspace = table.c.workspace_number == bindparam("number")
_get = select(table.c.manifest).where(_of_workspace, table.c.id == bindparam("of"))
_forget = delete(table).where(_of_workspace)


def put_snapshot(tx: Connection, workspace_number: int, id: str, manifest: dict[str, Any], now: int) -> None:
    """Store a manifest under the digest of its content. One that is there already is the same: it stays."""
    if first(tx, _get, {"number": workspace_number, "of": id}) is None:
        tx.execute(
            _insert,
            {"workspace_number": workspace_number, "id": id, "manifest": to_json(manifest), "created_at": now},
        )


def get_snapshot(tx: Connection, workspace_number: int, id: str) -> dict[str, Any] | None:
    """The manifest, or None when the workspace has no such snapshot."""
    row = first(tx, _get, {"number": workspace_number, "of": id})
    if row is None:
        return None
    manifest: dict[str, Any] = from_json(row[0])
    return manifest


def forget(tx: Connection, workspace_number: int) -> None:
    """The workspace is gone."""
    tx.execute(_forget, {"number": workspace_number})


def directory(workspace_number: int) -> str:
    """Where the files of a workspace's snapshots lie, below the home."""
    return f"code/{workspace_number}"
