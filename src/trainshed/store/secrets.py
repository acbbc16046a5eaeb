"""Sealed secrets of jobs and clusters. The store never sees them open (``trainshed.identity`` seals them)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sqlalchemy import Connection, bindparam, insert, select, update
from sqlalchemy import delete as delete_from

from trainshed.store.tables import secrets as table

_insert = insert(table).inline()
_get = select(table.c.path, table.c.sealed).where(table.c.owner_uid == bindparam("owner"))
_all = select(table.c.owner_uid, table.c.path, table.c.sealed).order_by(table.c.owner_uid, table.c.path)
_replace = (
    update(table)
    .where(table.c.owner_uid == bindparam("owner"), table.c.path == bindparam("at"))
    .values(sealed=bindparam("value"))
)
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


def all(tx: Connection) -> Iterator[tuple[str, str, bytes]]:
    """Every sealed secret: its owner's uid, its path, its sealed value."""
    for owner, path, sealed in tx.execute(_all):
        yield owner, path, bytes(sealed)


def replace(tx: Connection, changed: Mapping[tuple[str, str], bytes]) -> None:
    """Other sealed values for secrets that are stored, by owner and path."""
    if changed:
        rows = [{"owner": owner, "at": path, "value": sealed} for (owner, path), sealed in changed.items()]
        tx.execute(_replace, rows)


def delete(tx: Connection, owner_uid: str) -> None:
    """Forget an owner's secrets, if it has any."""
    tx.execute(_delete, {"owner": owner_uid})
