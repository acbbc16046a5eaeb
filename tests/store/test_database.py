"""``Database``: groups of writes, isolation, many threads, and what happens when it is closed or cut off."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from tests.support.postgres import PostgresServer
from trainshed.store import meta
from trainshed.store.backend import Backend, Session, backend_of
from trainshed.store.database import Database
from trainshed.store.errors import StoreClosed, StoreUnavailable
from trainshed.store.tickets import Ticket, sync_ticket
from trainshed.store.writer import Writer

pytestmark = pytest.mark.slow


def _increment(tx: Connection) -> int:
    value = int(meta.get(tx, "n") or 0) + 1
    meta.set(tx, "n", str(value))
    return value


class _Commits:
    """A backend whose writer's commits are counted, and can be made to fail."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.count = 0
        self.failure: Exception | None = None

    def __getattr__(self, name: str) -> object:
        return getattr(self._backend, name)

    def writer(self) -> Session:
        session = self._backend.writer()
        commit = session.commit

        def counted() -> None:
            if self.failure is not None:
                raise self.failure
            commit()
            self.count += 1

        session.commit = counted
        return session


def _in_one_group(writer: Writer, calls: list[Callable[[Connection], object]]) -> list[Ticket]:
    """Submit the calls so that the writer finds all of them waiting at once."""
    reached, go = threading.Event(), threading.Event()

    def hold(tx: Connection) -> None:
        reached.set()
        assert go.wait(30)

    holder = sync_ticket(hold)
    writer.submit(holder)
    assert reached.wait(30)
    tickets = [sync_ticket(call) for call in calls]
    for ticket in tickets:
        writer.submit(ticket)
    go.set()
    return tickets


def test_a_group_shares_one_commit(url: str) -> None:
    commits = _Commits(backend_of(url))
    writer = Writer(commits)
    tickets = _in_one_group(writer, [_increment] * 20)
    assert [ticket.future.result() for ticket in tickets] == list(range(1, 21))
    writer.close()
    assert commits.count == 2


def test_a_function_that_raises_takes_back_only_its_own_part(url: str) -> None:
    def spoil(tx: Connection) -> None:
        meta.set(tx, "spoilt", "yes")
        raise LookupError("on purpose")

    def break_a_constraint(tx: Connection) -> None:
        meta.set(tx, "broken", "yes")
        tx.execute(text("INSERT INTO meta (key, value) VALUES ('n', 'again')"))

    writer = Writer(backend_of(url))
    good, bad, worse, last = _in_one_group(writer, [_increment, spoil, break_a_constraint, _increment])
    assert good.future.result() == 1
    with pytest.raises(LookupError, match="on purpose"):
        bad.future.result()
    with pytest.raises(DBAPIError):
        worse.future.result()
    assert last.future.result() == 2
    writer.close()
    db = Database(backend_of(url))
    assert db.read_sync(lambda tx: [meta.get(tx, key) for key in ("n", "spoilt", "broken")]) == ["2", None, None]
    db.close_sync()


def test_a_lone_function_that_raises_leaves_nothing(db: Database) -> None:
    def spoil(tx: Connection) -> None:
        meta.set(tx, "spoilt", "yes")
        raise LookupError

    with pytest.raises(LookupError):
        db.write_sync(spoil)
    assert db.read_sync(lambda tx: meta.get(tx, "spoilt")) is None
    assert db.write_sync(_increment) == 1


def test_when_the_commit_fails_every_caller_of_the_group_hears_it(url: str) -> None:
    commits = _Commits(backend_of(url))
    writer = Writer(commits)
    calls: list[Callable[[Connection], object]] = [_increment, _increment]

    def fail_from_now_on(tx: Connection) -> None:
        commits.failure = sqlite3.OperationalError("disk I/O error")

    tickets = _in_one_group(writer, [fail_from_now_on, *calls])
    for ticket in tickets:
        with pytest.raises(StoreUnavailable, match="disk I/O error"):
            ticket.future.result(30)
    commits.failure = None
    after = sync_ticket(_increment)
    writer.submit(after)
    assert after.future.result(30) == 1
    writer.close()


def test_stop_iteration_reaches_the_caller(db: Database) -> None:
    with pytest.raises(RuntimeError, match="StopIteration"):
        asyncio.run(asyncio.wait_for(db.read(lambda tx: next(iter(()))), 10))


def test_a_read_sees_what_was_committed_before_it(db: Database) -> None:
    async def scenario() -> None:
        for expected in range(1, 101):
            assert await db.write(_increment) == expected
            assert await db.read(lambda tx: meta.get(tx, "n")) == str(expected)

    asyncio.run(scenario())


def test_a_read_sees_one_moment(db: Database) -> None:
    db.write_sync(_increment)
    looked, go = threading.Event(), threading.Event()

    def look_twice(tx: Connection) -> tuple[str | None, str | None]:
        before = meta.get(tx, "n")
        looked.set()
        assert go.wait(30)
        return before, meta.get(tx, "n")

    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(db.read_sync, look_twice)
        assert looked.wait(30)
        db.write_sync(_increment)
        go.set()
        assert pending.result(30) == ("1", "1")


def test_a_read_cannot_write(db: Database) -> None:
    with pytest.raises(DBAPIError, match=r"readonly|read-only"):
        db.read_sync(lambda tx: meta.set(tx, "a", "b"))


def test_eight_threads_hammer_it_and_none_meets_a_lock(db: Database) -> None:
    def hammer(_: int) -> int:
        seen = 0
        for _ in range(40):
            written = db.write_sync(_increment)
            read = int(db.read_sync(lambda tx: meta.get(tx, "n")) or 0)
            assert read >= written > seen
            seen = written
        return seen

    with ThreadPoolExecutor(8) as pool:
        assert max(pool.map(hammer, range(8))) == 320


def test_a_cancelled_caller_does_not_disturb_the_others(db: Database) -> None:
    async def scenario() -> None:
        first = asyncio.ensure_future(db.write(_increment))
        second = asyncio.ensure_future(db.write(_increment))
        await asyncio.sleep(0)
        first.cancel()
        assert await second == 2

    asyncio.run(scenario())


def test_close_carries_out_what_was_asked_for_and_refuses_the_rest(url: str) -> None:
    db = Database.open(url)
    with ThreadPoolExecutor(4) as pool:
        written = list(pool.map(lambda _: db.write_sync(_increment), range(8)))
    db.close_sync()
    db.close_sync()
    assert sorted(written) == list(range(1, 9))
    for ask in (db.write_sync, db.read_sync):
        with pytest.raises(StoreClosed):
            ask(_increment)


_OTHER_PROCESS = """
import sys
from trainshed.store import meta
from trainshed.store.database import Database

def increment(tx):
    value = int(meta.get(tx, "n") or 0) + 1
    meta.set(tx, "n", str(value))

db = Database.open(sys.stdin.readline().strip())
print("open", flush=True)
for _ in range(150):
    db.write_sync(increment)
db.close_sync()
"""


@pytest.mark.slow
def test_two_processes_share_it(url: str) -> None:
    db = Database.open(url)
    child = subprocess.Popen(
        [sys.executable, "-c", _OTHER_PROCESS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin is not None and child.stdout is not None
    child.stdin.write(url + "\n")
    child.stdin.flush()
    assert child.stdout.readline() == "open\n"
    for _ in range(150):
        db.write_sync(_increment)
    child.communicate(timeout=60)
    assert child.returncode == 0
    assert db.read_sync(lambda tx: meta.get(tx, "n")) == "300"
    db.close_sync()


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_the_files_are_the_owners_alone(empty_url: str) -> None:
    previous = os.umask(0)
    try:
        db = Database.open(empty_url)
        db.write_sync(_increment)
        path = empty_url.removeprefix("sqlite:///")
        modes = {suffix: stat.S_IMODE(Path(path + suffix).stat().st_mode) for suffix in ("", "-wal", "-shm")}
        db.close_sync()
    finally:
        os.umask(previous)
    assert modes == {"": 0o600, "-wal": 0o600, "-shm": 0o600}


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_sqlite_syncs_each_commit_and_checks_foreign_keys(db: Database) -> None:
    def settings(tx: Connection) -> list[object]:
        names = ("journal_mode", "synchronous", "foreign_keys")
        return [tx.execute(text(f"PRAGMA {name}")).scalar_one() for name in names]

    assert db.write_sync(settings) == ["wal", 2, 1]


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_a_writer_waits_for_another_processes_transaction(db: Database, url: str) -> None:
    other = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(db.write_sync, _increment)
        assert db.read_sync(lambda tx: meta.get(tx, "n")) is None
        assert not pending.done()
        other.execute("COMMIT")
        assert pending.result(30) == 1
    other.close()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["postgresql"], indirect=True)
def test_postgresql_may_be_restarted_under_it(db: Database, postgres: PostgresServer) -> None:
    assert db.write_sync(_increment) == 1
    assert db.read_sync(lambda tx: meta.get(tx, "n")) == "1"
    postgres.restart()
    assert db.read_sync(lambda tx: meta.get(tx, "n")) == "1"
    assert db.write_sync(_increment) == 2


@pytest.mark.parametrize("kind", ["postgresql"], indirect=True)
def test_a_connection_cut_in_the_middle_of_a_write_is_mended(db: Database) -> None:
    tries: list[int] = []

    def cut_the_first_time(tx: Connection) -> int:
        value = _increment(tx)
        tries.append(value)
        if len(tries) == 1:
            tx.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        return value

    assert db.write_sync(cut_the_first_time) == 1
    assert tries == [1, 1]
    assert db.read_sync(lambda tx: meta.get(tx, "n")) == "1"


@pytest.mark.parametrize("kind", ["postgresql"], indirect=True)
def test_a_connection_cut_after_the_commit_does_not_write_twice(url: str) -> None:
    backend = backend_of(url)
    commits = _Commits(backend)
    make = commits.writer

    def writer() -> Session:
        session = make()
        commit = session.commit

        def commit_and_lose_the_answer() -> None:
            commit()
            raise DBAPIError.instance("COMMIT", None, _lost(), Exception, connection_invalidated=True)

        session.commit = commit_and_lose_the_answer
        return session

    commits.writer = writer
    lone = Writer(commits)
    ticket = sync_ticket(_increment)
    lone.submit(ticket)
    assert ticket.future.result(30) == 1
    lone.close()
    assert commits.count == 1
    db = Database(backend)
    assert db.read_sync(lambda tx: meta.get(tx, "n")) == "1"
    db.close_sync()


def _lost() -> Exception:
    import psycopg

    return psycopg.OperationalError("server closed the connection unexpectedly")
