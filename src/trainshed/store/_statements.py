"""Small helpers that the query modules share: a unique row or a clear error, whichever the database.

Statements are built once, when a module is imported, and compiled once a connection: a query then costs little more
than the database's own work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Executable
from sqlalchemy.exc import IntegrityError

from trainshed.store.errors import StoreError


@contextmanager
def refused_as(tx: Connection, error: Callable[[], StoreError]) -> Iterator[None]:
    """Turn a constraint's refusal into ``error()``; the transaction stays usable.

    SQLite takes back a refused statement by itself; PostgreSQL needs a savepoint for that.
    """
    try:
        if tx.dialect.name == "sqlite":
            yield
        else:
            with tx.begin_nested():
                yield
    except IntegrityError as exc:
        raise error() from exc


def rows_changed(tx: Connection, statement: Executable, parameters: Mapping[str, Any]) -> int:
    """Run an UPDATE or DELETE and say how many rows it changed."""
    return tx.execute(statement, parameters).rowcount


def first(tx: Connection, statement: Executable, parameters: Mapping[str, Any]) -> Sequence[Any] | None:
    """The first row, or None."""
    return tx.execute(statement, parameters).first()
