"""SQLite: one file in WAL mode, every commit synced to the disk before it is reported.

Transactions are begun and ended on the driver's connection, not through SQLAlchemy: the writer knows best when.
Source of the settings: https://www.sqlite.org/wal.html and https://www.sqlite.org/pragma.html.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from trainshed.store.backend import Session
from trainshed.store.errors import StoreUnavailable

#: How long one attempt to begin waits for another process's transaction, in milliseconds.
BUSY_TIMEOUT = 10_000
#: Pages in the write-ahead log before the writer copies them into the database (4 KiB each).
CHECKPOINT_PAGES = 2_000


class SqliteSession:
    """A connection of one thread."""

    def __init__(self, engine: Engine, begin: str) -> None:
        self.connection: Connection = engine.connect()
        driver = self.connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        self._driver = driver
        self._begin = begin
        # Makes SQLAlchemy consider itself in a transaction for good: it then adds nothing of its own.
        self.connection.begin()

    def begin(self) -> None:
        self._driver.execute(self._begin)

    def savepoint(self) -> None:
        self._driver.execute("SAVEPOINT part")

    def release(self) -> None:
        self._driver.execute("RELEASE part")

    def roll_back_to_savepoint(self) -> None:
        self._driver.execute("ROLLBACK TO part")
        self._driver.execute("RELEASE part")

    def commit(self) -> None:
        self._driver.execute("COMMIT")

    def roll_back(self) -> None:
        # Some errors (disk full) end the transaction by themselves.
        if self._driver.in_transaction:
            self._driver.execute("ROLLBACK")

    def close(self) -> None:
        try:
            self.connection.close()
        except (DBAPIError, sqlite3.Error):
            pass


class SqliteBackend:
    """A database file, made with mode 0600 when it is absent (its log and index take over that mode)."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._make_file()
        self._engine = create_engine("sqlite://", poolclass=NullPool, creator=self._connect)

    @property
    def url(self) -> str:
        return f"sqlite:///{self.path}"

    def _make_file(self) -> None:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            return
        except OSError as exc:
            raise StoreUnavailable(f"cannot make the database file {self.path}: {exc.strerror}") from exc
        # The new name itself must survive a power cut.
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _connect(self) -> sqlite3.Connection:
        # Connections are made by the thread that uses them, but closed by whichever comes last.
        driver = sqlite3.connect(
            self.path,
            timeout=BUSY_TIMEOUT / 1000,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
        try:
            driver.execute("PRAGMA journal_mode = WAL")
            driver.execute("PRAGMA synchronous = FULL")
            driver.execute("PRAGMA foreign_keys = ON")
            driver.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
            driver.execute("PRAGMA journal_size_limit = 67108864")
            driver.execute("PRAGMA trusted_schema = OFF")
        except BaseException:
            driver.close()
            raise
        return driver

    def writer(self) -> Session:
        return SqliteSession(self._engine, "BEGIN IMMEDIATE")

    def reader(self) -> Session:
        session = SqliteSession(self._engine, "BEGIN")
        session.connection.exec_driver_sql("PRAGMA query_only = ON")
        return session

    def is_passing(self, error: BaseException) -> bool:
        if isinstance(error, DBAPIError):
            error = error.orig or error
        code = getattr(error, "sqlite_errorcode", None)
        return code is not None and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)

    def was_committed(self, session: Session) -> bool:
        return False
