"""Small facts about the installation itself, by name."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, insert, select, update

from trainshed.store._statements import first, rows_changed
from trainshed.store.tables import meta as table

_get = select(table.c.value).where(table.c.key == bindparam("of"))
_insert = insert(table).inline()
_update = update(table).where(table.c.key == bindparam("of")).values(value=bindparam("v"))


def get(tx: Connection, key: str) -> str | None:
    """The value, or None when it was never set."""
    row = first(tx, _get, {"of": key})
    return None if row is None else str(row[0])


def set(tx: Connection, key: str, value: str) -> None:
    """Set or replace the value."""
    if rows_changed(tx, _update, {"of": key, "v": value}) == 0:
        tx.execute(_insert, {"key": key, "value": value})
