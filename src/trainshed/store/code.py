"""Code snapshots: which files, by their content's digest, a job's code consists of."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, bindparam, insert, select

from trainshed.store._statements import first
from trainshed.store.encoding import from_json, to_json
from trainshed.store.tables import code_snapshots as table

_insert = insert(table).inline()
_get = select(table.c.manifest).where(table.c.id == bindparam("of"))


def put_snapshot(tx: Connection, id: str, workspace_key: str, manifest: dict[str, Any], now: int) -> None:
    """Store a manifest under the digest of its content. One that is there already is the same: it stays."""
    if first(tx, _get, {"of": id}) is None:
        tx.execute(
            _insert, {"id": id, "workspace_key": workspace_key, "manifest": to_json(manifest), "created_at": now}
        )


def get_snapshot(tx: Connection, id: str) -> dict[str, Any] | None:
    """The manifest, or None when there is no such snapshot."""
    row = first(tx, _get, {"of": id})
    if row is None:
        return None
    manifest: dict[str, Any] = from_json(row[0])
    return manifest
