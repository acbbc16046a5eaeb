"""What the writer and the readers need of a database, and which database a URL means."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection, make_url
from sqlalchemy.exc import ArgumentError

from trainshed.store.errors import StoreError


class Session(Protocol):
    """One thread's connection and the transaction on it."""

    @property
    def connection(self) -> Connection:
        """What store functions are given."""
        ...

    def begin(self) -> None:
        """Begin a transaction; a writer's has the right to write from its first moment."""
        ...

    def savepoint(self) -> None:
        """Begin a part that can be taken back by itself."""
        ...

    def release(self) -> None:
        """Keep the part."""
        ...

    def roll_back_to_savepoint(self) -> None:
        """Take the part back. Raises when the whole transaction is lost already."""
        ...

    def commit(self) -> None:
        """Make the transaction durable: once this returns it survives a power cut."""
        ...

    def roll_back(self) -> None:
        """Take the transaction back."""
        ...

    def close(self) -> None:
        """Let go of the connection; never raises."""
        ...


class Backend(Protocol):
    """A kind of database."""

    @property
    def url(self) -> str:
        """The URL with its password, for a process that is to open the same database."""
        ...

    def writer(self) -> Session:
        """Connect for writing. Everybody's write transactions follow one another."""
        ...

    def reader(self) -> Session:
        """Connect for reading: each transaction sees one moment, not older than its beginning."""
        ...

    def is_passing(self, error: BaseException) -> bool:
        """Whether trying again on a new connection may help (busy, restarted, serialization failure)."""
        ...

    def was_committed(self, session: Session) -> bool:
        """Whether the last transaction of a closed session, whose ``commit`` raised, was committed after all."""
        ...


def backend_of(url: str) -> Backend:
    """The backend for ``sqlite:///path``, ``postgresql://...`` or ``postgresql+psycopg://...``.

    Raises StoreError when the URL means neither.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StoreError(f"the database URL is not one; {_WAY_OUT}") from None
    kind = parsed.get_backend_name()
    if kind == "sqlite" and parsed.database and parsed.database != ":memory:":
        from trainshed.store.sqlite import SqliteBackend

        return SqliteBackend(Path(parsed.database))
    if kind in ("postgresql", "postgres"):
        from trainshed.store.postgres import PostgresBackend

        return PostgresBackend(parsed.set(drivername="postgresql+psycopg"))
    raise StoreError(f"the database URL names {kind!r} without a place that lasts; {_WAY_OUT}")


_WAY_OUT = "give sqlite:///{path of a file} or postgresql://{user}:{password}@{host}/{database}"
