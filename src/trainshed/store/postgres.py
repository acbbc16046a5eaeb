"""PostgreSQL: write transactions follow one another under an advisory lock, also those of several service processes.

So the rules that SQLite gives by having one writer hold here too: nothing changes between a query and the change that
rests on it, and events are numbered in the order in which they become visible (a reader that goes on after the last
number it saw misses none). Groups of writes share a commit, so the lock costs little.
"""

from __future__ import annotations

import time

from sqlalchemy import URL, Connection, Engine, NestedTransaction, RootTransaction, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from trainshed.store.backend import Session
from trainshed.store.errors import StoreError, StoreUnavailable

#: Key of the advisory lock ("trainshd" in ASCII).
LOCK = 0x747261696E736864
#: Serialization failure, deadlock, server stopping or starting, lock or idle time-out.
_PASSING = frozenset({"40001", "40P01", "57P01", "57P02", "57P03", "55P03", "25P03"})
#: How long to ask a restarted server what became of a commit, in seconds.
_ASKING = 15.0

#: Seconds after which the server takes back a write transaction in which nothing is said.
IDLE_SECONDS = 5

_LOCK_AND_NAME = text(f"SELECT pg_advisory_xact_lock({LOCK}), txid_current()")
_STATUS = text("SELECT txid_status(:xid)")


class PostgresSession:
    """A connection of one thread."""

    def __init__(self, connection: Connection, *, writes: bool) -> None:
        self.connection = connection
        self._writes = writes
        self._transaction: RootTransaction | None = None
        self._part: NestedTransaction | None = None
        #: Number of the last write transaction, by which the server remembers what became of it.
        self.xid: int | None = None

    def begin(self) -> None:
        self.xid = None
        self._transaction = self.connection.begin()
        if self._writes:
            self.xid = self.connection.execute(_LOCK_AND_NAME).one()[1]

    def savepoint(self) -> None:
        self._part = self.connection.begin_nested()

    def release(self) -> None:
        assert self._part is not None
        self._part.commit()

    def roll_back_to_savepoint(self) -> None:
        assert self._part is not None
        self._part.rollback()

    def commit(self) -> None:
        assert self._transaction is not None
        self._transaction.commit()

    def roll_back(self) -> None:
        assert self._transaction is not None
        self._transaction.rollback()

    def close(self) -> None:
        try:
            self.connection.close()
        except DBAPIError:
            pass


class PostgresBackend:
    """A database on a server."""

    def __init__(self, url: URL) -> None:
        self._url = url
        try:
            self._engine: Engine = create_engine(
                url,
                poolclass=NullPool,
                connect_args={"connect_timeout": 10, "application_name": "trainshed"},
            )
        except ModuleNotFoundError:
            raise StoreError("the driver for PostgreSQL is not installed: pip install 'trainshed[postgres]'") from None

    @property
    def url(self) -> str:
        return self._url.render_as_string(hide_password=False)

    def writer(self) -> Session:
        connection = self._connect("READ COMMITTED")
        # A process that was frozen in the middle of a write must not hold up the others: no lease ends sooner.
        connection.exec_driver_sql(f"SET idle_in_transaction_session_timeout = '{IDLE_SECONDS}s'")
        connection.exec_driver_sql("SET lock_timeout = '40s'")
        connection.exec_driver_sql("SET synchronous_commit = on")
        connection.commit()
        return PostgresSession(connection, writes=True)

    def reader(self) -> Session:
        connection = self._connect("REPEATABLE READ", postgresql_readonly=True)
        return PostgresSession(connection, writes=False)

    def _connect(self, isolation_level: str, **options: bool) -> Connection:
        return self._engine.connect().execution_options(isolation_level=isolation_level, **options)

    def is_passing(self, error: BaseException) -> bool:
        if not isinstance(error, DBAPIError):
            return False
        state: str | None = getattr(error.orig, "sqlstate", None)
        if state is None:
            # No answer of the server: the connection was refused or broke.
            return error.connection_invalidated or type(error.orig).__name__ == "OperationalError"
        return state in _PASSING or state.startswith("08")

    def was_committed(self, session: Session) -> bool:
        """Ask the server, by the transaction's number, until it knows. Raises StoreUnavailable when it cannot say."""
        assert isinstance(session, PostgresSession)
        if session.xid is None:
            return False
        until = time.monotonic() + _ASKING
        while time.monotonic() < until:
            try:
                with self._engine.connect() as connection:
                    status = connection.execute(_STATUS, {"xid": session.xid}).scalar_one()
            except DBAPIError as exc:
                if not self.is_passing(exc):
                    raise
                status = "in progress"
            if status != "in progress":
                return bool(status == "committed")
            time.sleep(0.1)
        raise StoreUnavailable("the connection broke while committing, and the server cannot say whether it committed")
