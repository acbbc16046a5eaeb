"""Sealed secrets of jobs and clusters. The store never sees them open (``trainshed.identity`` seals them)."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, bindparam, insert, select
from sqlalchemy import delete as delete_from

from trainshed.store.tables import secrets as table

_insert = insert(table).inline()
_get = select(table.c.path, table.c.sealed).where(table.c.owner_uid == bindparam("owner"))
_delete = delete_from(table).where(table.c.owner_uid == bindparam("owner"))


def put(tx: Connection, owner_uid: str, sealed: Mapping[str, bytes]) -> None:
    """Store an owner's sealed secrets by their path in the definition, in place of any stored before."""
    tx.execute(_delete, {"owner": owner_uid})
    if sealed:
        tx.execute(
            _insert, [{"owner_uid": owner_uid, "path": path, "sealed": secret} for path, secret in sealed.items()]
        )


def get(tx: Connection, owner_uid: str) -> dict[str, bytes]:
    """An owner's sealed secrets by path; empty when there are none."""
    return {path: bytes(secret) for path, secret in tx.execute(_get, {"owner": owner_uid})}


def delete(tx: Connection, owner_uid: str) -> None:
    """Forget an owner's secrets, if it has any."""
    tx.execute(_delete, {"owner": owner_uid})
