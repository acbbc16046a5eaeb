"""The real store on SQLite in memory, called at a later moment that the seed decides, with faults.

The schema is migrated once a process. Each run works inside one outer savepoint that is taken back at its end, so that
it begins with an empty database; a write transaction of the product is a savepoint within it.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar, cast

from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import StaticPool

from tests.simulation.quick import QuickConnection
from tests.simulation.rules import USERS
from tests.support.factories import make_parents
from trainshed.store import principals
from trainshed.store.backend import Session
from trainshed.store.errors import StoreUnavailable
from trainshed.store.migrate import upgrade
from trainshed.store.records import PrincipalRecord
from trainshed.store.sqlite import SqliteSession

T = TypeVar("T")


class MemoryBackend:
    """One connection to a database in memory, for the migrations."""

    url = "sqlite://"

    def __init__(self) -> None:
        self.driver = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False, cached_statements=512)
        self.driver.execute("PRAGMA foreign_keys = ON")
        self.driver.execute("PRAGMA trusted_schema = OFF")
        self.engine = create_engine("sqlite://", poolclass=StaticPool, creator=lambda: self.driver)

    def writer(self) -> Session:
        return SqliteSession(self.engine, "BEGIN IMMEDIATE")

    def reader(self) -> Session:
        return SqliteSession(self.engine, "BEGIN")

    def is_passing(self, error: BaseException) -> bool:
        return False

    def was_committed(self, session: Session) -> bool:
        return False


class Store:
    """The database of one process's runs."""

    def __init__(self) -> None:
        backend = MemoryBackend()
        upgrade(backend)
        self.driver = backend.driver
        self.session = backend.writer()
        self.session.begin()
        make_parents(self.session.connection)
        for id, name in USERS.items():
            principals.insert(self.session.connection, PrincipalRecord(id, "User", name, name, None, None, None, 1))
        self.session.commit()
        #: What the product's functions are given.
        self.connection = cast(Connection, QuickConnection(self.session.connection, self.driver))

    def plainly(self) -> None:
        """From now on through SQLAlchemy alone."""
        self.connection = self.session.connection

    @contextmanager
    def fresh(self) -> Iterator[None]:
        """Whatever is written inside is taken back at the end."""
        self.driver.execute("SAVEPOINT run")
        try:
            yield
        finally:
            self.driver.execute("ROLLBACK TO run")
            self.driver.execute("RELEASE run")

    def write(self, call: Callable[[Connection], T]) -> T:
        """One transaction, now. What the call raises takes all of it back."""
        self.session.savepoint()
        try:
            value = call(self.connection)
        except BaseException:
            self.session.roll_back_to_savepoint()
            raise
        self.session.release()
        return value

    def attempt(self, call: Callable[[Connection], T]) -> None:
        """Run the call in a transaction that fails at its end: nothing of it stays but what it did to memory."""
        self.session.savepoint()
        try:
            call(self.connection)
        finally:
            self.session.roll_back_to_savepoint()


@cache
def store() -> Store:
    """The one of this process."""
    return Store()


class SimulatedDatabase:
    """A test double of ``store.database.Database`` for one life of the service, with the same promises.

    A write is carried out even when its caller is cancelled; what it raises takes all of it back; the function may be
    run again when its transaction failed; StoreUnavailable says that nothing is stored. Beyond those promises an
    answer may be lost after the commit (``answer of write lost``), as when the service is killed.
    """

    dialect = "sqlite"

    def __init__(
        self,
        store: Store,
        roll: random.Random,
        *,
        latency: float,
        happens: Callable[[str], bool],
        committed: Callable[[], None],
        kill: Callable[[str], None],
    ) -> None:
        self._store = store
        self._roll = roll
        self._latency = latency
        self._happens = happens
        self._committed = committed
        self._kill = kill
        self._last = 0.0
        #: Set to False when the service is killed: nothing that is under way arrives.
        self.alive = True

    async def read(self, call: Callable[[Connection], T]) -> T:
        """Sees everything committed before now."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._later(self._do_read, call, future)
        return await future

    async def write(self, call: Callable[[Connection], T]) -> T:
        """One transaction after the other, in the order in which they were asked for."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._later(self._do_write, call, future)
        return await future

    def _later(self, do: Callable[..., None], call: Callable[[Connection], Any], future: asyncio.Future[Any]) -> None:
        loop = asyncio.get_running_loop()
        # Never earlier than what was asked for before: one thread writes.
        self._last = max(self._last + 1e-6, loop.time() + self._roll.random() * self._latency / 4)
        loop.call_at(self._last, do, call, future)

    def _do_read(self, call: Callable[[Connection], T], future: asyncio.Future[T]) -> None:
        if self.alive:
            _settle(future, lambda: call(self._store.connection))

    def _do_write(self, call: Callable[[Connection], T], future: asyncio.Future[T]) -> None:
        if not self.alive:
            return
        if self._happens("killed before a write"):
            self._kill("before a write")
            return
        if self._happens("write fails"):
            self._refuse(future, "the database did not take the change")
            return
        if self._happens("write repeated"):
            try:
                self._store.attempt(call)
            except Exception:
                pass  # It will raise the same in a moment.
        _settle(future, lambda: self._store.write(call), unless=self._after)

    def _after(self) -> bool:
        """The transaction is committed. Whether its caller does not hear so."""
        self._committed()
        if self._happens("killed after a write"):
            self._kill("after a write")
        elif self._happens("answer of write lost"):
            return True
        return False

    def _refuse(self, future: asyncio.Future[Any], why: str) -> None:
        if not future.done():
            future.set_exception(StoreUnavailable(f"simulated: {why}"))


def _settle(future: asyncio.Future[T], call: Callable[[], T], unless: Callable[[], bool] | None = None) -> None:
    try:
        value = call()
    except Exception as error:
        if not future.done():
            future.set_exception(error)
        return
    lost = unless is not None and unless()
    if future.done():
        return
    if lost:
        future.set_exception(StoreUnavailable("simulated: the answer was lost after the commit"))
    else:
        future.set_result(value)
