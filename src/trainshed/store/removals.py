"""Directories of the home whose resource is gone, until they are gone too.

Written in the transaction that forgets the resource and cleared when nothing is left on disk, so that a crash in
between leaves no orphan. They lie among the facts of ``meta``.
"""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, select, update
from sqlalchemy import delete as delete_from

from trainshed.store import meta
from trainshed.store._statements import rows_changed
from trainshed.store.tables import meta as table

_PREFIX = "removal:"
_pending = (
    select(table.c.key, table.c.value)
    .where(table.c.key > _PREFIX, table.c.key < _PREFIX[:-1] + ";")
    .order_by(table.c.key)
)
_move = update(table).where(table.c.key == bindparam("of")).values(value=bindparam("v"))
_clear = delete_from(table).where(table.c.key == bindparam("of"))


def request(tx: Connection, uid: str, path: str) -> None:
    """The directory ``path`` (relative to the home) of the resource with this uid is to be removed."""
    meta.set(tx, _PREFIX + uid, path)


def pending(tx: Connection) -> dict[str, str]:
    """What is to be removed: path by uid."""
    return {key.removeprefix(_PREFIX): str(path) for key, path in tx.execute(_pending)}


def moved(tx: Connection, uid: str, path: str) -> bool:
    """The directory lies at ``path`` now; its former place is free. False when the removal was done meanwhile."""
    return rows_changed(tx, _move, {"of": _PREFIX + uid, "v": path}) > 0


def clear(tx: Connection, uid: str) -> None:
    """It is gone."""
    tx.execute(_clear, {"of": _PREFIX + uid})
