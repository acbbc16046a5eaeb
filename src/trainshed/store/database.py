"""The database as the service sees it: functions that take a connection go in, what they return comes out.

    job = await database.read(lambda tx: jobs.get(tx, key))
    await database.write(lambda tx: jobs.place(tx, job.id, now, attempt_id))

A function may be run again when its transaction failed, so it must do nothing but talk to the database. A write that
was asked for is carried out even when its caller is cancelled while it waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Self, TypeVar, cast

from sqlalchemy import URL, Connection, make_url
from sqlalchemy.exc import SQLAlchemyError

from trainshed.store import leadership
from trainshed.store.backend import Backend, backend_of
from trainshed.store.errors import StaleLeader, StoreUnavailable
from trainshed.store.readers import Readers
from trainshed.store.schema import bring_up_to_date
from trainshed.store.tickets import async_ticket, sync_ticket
from trainshed.store.writer import Writer

T = TypeVar("T")

#: Threads that read. Reads are short: more would only take turns.
READERS = 4


class Database:
    """An open database: one writing thread and a few reading ones."""

    def __init__(self, backend: Backend, *, readers: int = READERS) -> None:
        self._backend = backend
        self._writer = Writer(backend)
        self._readers = Readers(backend, readers)

    @classmethod
    def open(cls, url: str, *, readers: int = READERS) -> Self:
        """Open ``sqlite:///path`` or ``postgresql://...``, bringing its schema up to date first (blocks).

        Raises StoreError when the URL is not one, StoreUnavailable when the database cannot be reached, SchemaMismatch
        when it was used by a newer version.
        """
        backend = backend_of(url)
        try:
            bring_up_to_date(backend)
        except SQLAlchemyError as exc:
            raise StoreUnavailable(f"cannot open the database: {exc}") from exc
        return cls(backend, readers=readers)

    @property
    def url(self) -> URL:
        """Where it is, with the password."""
        return make_url(self._backend.url)

    @property
    def dialect(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return self._backend.url.partition(":")[0].partition("+")[0]

    async def read(self, call: Callable[[Connection], T]) -> T:
        """Run ``call`` off the event loop in a transaction that sees everything committed before now."""
        ticket = async_ticket(call)
        self._readers.submit(ticket)
        return await cast("asyncio.Future[T]", ticket.future)

    async def write(self, call: Callable[[Connection], T]) -> T:
        """Run ``call`` in a transaction that is durable when this returns; what it raises takes all of it back."""
        ticket = async_ticket(call)
        self._writer.submit(ticket)
        return await cast("asyncio.Future[T]", ticket.future)

    def read_sync(self, call: Callable[[Connection], T]) -> T:
        """``read`` for a thread without an event loop."""
        ticket = sync_ticket(call)
        self._readers.submit(ticket)
        return cast(T, ticket.future.result())

    def write_sync(self, call: Callable[[Connection], T]) -> T:
        """``write`` for a thread without an event loop."""
        ticket = sync_ticket(call)
        self._writer.submit(ticket)
        return cast(T, ticket.future.result())

    async def close(self) -> None:
        """Carry out what was asked for, then let go of the database."""
        await asyncio.to_thread(self.close_sync)

    def close_sync(self) -> None:
        """``close`` for a thread without an event loop."""
        self._readers.close()
        self._writer.close()


class FencedDatabase:
    """The database for a controller that holds a lease: once another process controls, it takes nothing more."""

    def __init__(self, db: Database, token: int, on_stale: Callable[[], None]) -> None:
        """``on_stale`` is called, from the event loop, when a write was refused."""
        self._db = db
        self._token = token
        self._on_stale = on_stale

    async def read(self, call: Callable[[Connection], T]) -> T:
        """See ``Database.read``."""
        return await self._db.read(call)

    async def write(self, call: Callable[[Connection], T]) -> T:
        """See ``Database.write``. Raises StaleLeader; nothing is stored then."""

        def fenced(tx: Connection) -> T:
            leadership.fence(tx, self._token)
            return call(tx)

        try:
            return await self._db.write(fenced)
        except StaleLeader:
            self._on_stale()
            raise
