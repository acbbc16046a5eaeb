"""One leader among processes on one PostgreSQL, and a database that takes nothing from a former one."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from tests.support.factories import make_cluster, make_parents
from trainshed.resources.lifecycle import NodeEvent, NodeState
from trainshed.store import clusters, leadership, meta, nodes
from trainshed.store.coordination import Coordination
from trainshed.store.database import Database, FencedDatabase
from trainshed.store.errors import StaleLeader, StoreUnavailable
from trainshed.store.leadership import CONNECTED, RELEASED, Grant, Taken
from trainshed.store.records import NodeRecord

LONG = 60.0


@pytest.fixture
def kind() -> str:
    """There is no lease on SQLite: one process does all."""
    return "postgresql"


@pytest.fixture
def play(db: Database) -> Iterator[Callable[[Callable[[Coordination, Coordination], Awaitable[None]]], None]]:
    """Runs a scenario of two processes."""

    def runner(scenario: Callable[[Coordination, Coordination], Awaitable[None]]) -> None:
        async def main() -> None:
            one, other = Coordination(db.url, "one", "first"), Coordination(db.url, "other", "second")
            try:
                await scenario(one, other)
            finally:
                await one.close()
                await other.close()

        asyncio.run(main())

    yield runner


def _add_node(tx: Connection) -> None:
    uid = clusters.all(tx)[0].uid
    nodes.insert(tx, NodeRecord("n", uid, 0, NodeState.PREPARING, 1, 0, "", "", None, None))


def _prepare(db: Database) -> None:
    db.write_sync(make_parents)
    db.write_sync(make_cluster)


def test_one_of_two_gets_it_and_the_other_hears_for_how_long(db: Database, play: Callable[..., None]) -> None:
    async def scenario(one: Coordination, other: Coordination) -> None:
        answers = await asyncio.gather(one.acquire(LONG), other.acquire(LONG))
        (granted,) = (answer for answer in answers if isinstance(answer, Grant))
        (taken,) = (answer for answer in answers if isinstance(answer, Taken))
        assert granted.token == 1
        assert LONG - 30 < taken.seconds <= LONG
        lease = await db.read(leadership.current)
        assert lease is not None
        assert lease.held
        assert lease.name in ("first", "second")

    play(scenario)


def test_a_token_is_higher_than_all_before_it(db: Database, play: Callable[..., None]) -> None:
    async def scenario(one: Coordination, other: Coordination) -> None:
        assert await one.acquire(0.01) == Grant(1)
        await asyncio.sleep(0.02)  # The lease is over by the database's clock.
        assert await other.acquire(LONG) == Grant(2)
        assert not await one.renew(1, LONG, engine_available=True)
        await one.release(1)
        assert isinstance(await one.acquire(LONG), Taken)
        await other.release(2)
        lease = await db.read(leadership.current)
        assert lease is not None
        assert not lease.held
        assert await one.acquire(LONG) == Grant(3)

    play(scenario)


def test_an_expired_lease_that_nobody_took_can_be_renewed(db: Database, play: Callable[..., None]) -> None:
    async def scenario(one: Coordination, other: Coordination) -> None:
        assert await one.acquire(0.01) == Grant(1)
        await asyncio.sleep(0.02)
        assert await one.renew(1, LONG, engine_available=True)
        assert isinstance(await other.acquire(LONG), Taken)
        lease = await db.read(leadership.current)
        assert lease is not None
        assert lease.engine_available

    play(scenario)


def test_a_former_leader_s_writes_are_refused_and_leave_nothing(db: Database, play: Callable[..., None]) -> None:
    async def scenario(one: Coordination, other: Coordination) -> None:
        refused: list[int] = []
        assert await one.acquire(0.01) == Grant(1)
        former = FencedDatabase(db, 1, lambda: refused.append(1))
        await former.write(lambda tx: meta.set(tx, "who", "one"))
        await asyncio.sleep(0.02)
        assert await other.acquire(LONG) == Grant(2)
        with pytest.raises(StaleLeader):
            await former.write(lambda tx: meta.set(tx, "who", "one again"))
        assert refused == [1]
        # Beside others' writes in one transaction, too.
        later = FencedDatabase(db, 2, lambda: refused.append(2))
        done = await asyncio.gather(
            *(one_of.write(lambda tx, n=n: meta.set(tx, f"n{n}", "x")) for n, one_of in enumerate([later, former, db])),
            return_exceptions=True,
        )
        assert [type(each) for each in done] == [type(None), StaleLeader, type(None)]
        assert await db.read(lambda tx: [meta.get(tx, key) for key in ("who", "n0", "n1", "n2")]) == [
            "one",
            "x",
            None,
            "x",
        ]

    play(scenario)


def test_the_database_itself_refuses_what_carries_no_token_or_a_former_one(
    db: Database, play: Callable[..., None]
) -> None:
    """Also from code that forgot to ask."""
    _prepare(db)

    async def scenario(one: Coordination, other: Coordination) -> None:
        assert await one.acquire(LONG) == Grant(1)
        with pytest.raises(OperationalError, match="only the leading controller changes nodes"):
            await db.write(_add_node)
        leader = FencedDatabase(db, 1, lambda: None)
        await leader.write(_add_node)

        def with_former_token(tx: Connection) -> None:
            tx.execute(text("SELECT set_config('trainshed.leader', '7', true)"))
            nodes.apply(tx, "n", NodeEvent.PREPARED, 2)

        with pytest.raises(OperationalError, match="only the leading controller"):
            await db.write(with_former_token)
        await leader.write(lambda tx: nodes.apply(tx, "n", NodeEvent.PREPARED, 2))
        # What one transaction was allowed does not go over to the next on the same connection.
        with pytest.raises(OperationalError, match="only the leading controller"):
            await db.write(lambda tx: nodes.apply(tx, "n", NodeEvent.REMOVAL_REQUESTED, 3))

    play(scenario)


def test_a_take_over_waits_for_the_former_leader_s_transaction_and_a_renewal_does_not(
    db: Database, play: Callable[..., None]
) -> None:
    async def scenario(one: Coordination, other: Coordination) -> None:
        assert await one.acquire(0.01) == Grant(1)
        within, on = threading.Event(), threading.Event()

        def slow(tx: Connection) -> None:
            within.set()
            assert on.wait(4)
            meta.set(tx, "who", "one")

        writing = asyncio.create_task(FencedDatabase(db, 1, lambda: None).write(slow))
        assert await asyncio.to_thread(within.wait, 4)
        assert await one.renew(1, 0.01, engine_available=True)
        await asyncio.sleep(0.02)
        taking = asyncio.create_task(other.acquire(LONG))
        done, _ = await asyncio.wait({taking}, timeout=0.3)
        assert not done
        on.set()
        await writing
        assert await taking == Grant(2)
        assert await db.read(lambda tx: meta.get(tx, "who")) == "one"

    play(scenario)


_FROZEN = """
import asyncio, os, signal, sys
from sqlalchemy import text
from trainshed.store import meta
from trainshed.store.database import Database, FencedDatabase
from trainshed.store.errors import StaleLeader

tries = []

def freeze(tx):
    tries.append(1)
    meta.set(tx, "who", "the frozen one")
    if len(tries) == 1:
        os.kill(os.getpid(), signal.SIGSTOP)
    meta.set(tx, "and", "the frozen one")

async def main():
    db = await asyncio.to_thread(Database.open, sys.stdin.readline().strip())
    try:
        await FencedDatabase(db, 1, lambda: None).write(freeze)
    except StaleLeader as error:
        print(f"refused after {len(tries)}: {error}")
    finally:
        await db.close()

asyncio.run(main())
"""


@pytest.mark.slow
def test_a_leader_frozen_in_the_middle_of_a_transaction_holds_nobody_up_and_changes_nothing(
    db: Database, play: Callable[..., None]
) -> None:
    """SIGSTOP between two statements of one transaction, a take-over, then SIGCONT."""

    child = subprocess.Popen([sys.executable, "-c", _FROZEN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    async def scenario(one: Coordination, other: Coordination) -> None:
        assert await one.acquire(0.01) == Grant(1)
        try:
            assert child.stdin is not None
            child.stdin.write(db.url.render_as_string(hide_password=False) + "\n")
            child.stdin.flush()
            await asyncio.to_thread(os.waitid, os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
            # The server takes its transaction back before long, and then whoever asks gets the lease.
            async with asyncio.timeout(30):
                while not isinstance(answer := await other.acquire(LONG), Grant):
                    pass
            assert answer == Grant(2)
            await FencedDatabase(db, 2, lambda: None).write(lambda tx: meta.set(tx, "who", "the new one"))
            child.send_signal(signal.SIGCONT)
            said, _ = await asyncio.to_thread(child.communicate, timeout=60)
        finally:
            child.kill()
            child.wait()
        assert "refused after 1: the lease with token 1 is over" in said
        assert await db.read(lambda tx: (meta.get(tx, "who"), meta.get(tx, "and"))) == ("the new one", None)

    play(scenario)


def test_notices_reach_who_listens_also_on_a_new_connection(db: Database, play: Callable[..., None]) -> None:
    async def scenario(one: Coordination, other: Coordination) -> None:
        heard: asyncio.Queue[str] = asyncio.Queue()
        listening = asyncio.create_task(other.listen(heard.put_nowait))

        async def next_one() -> str:
            async with asyncio.timeout(20):
                return await heard.get()

        assert await next_one() == CONNECTED
        await one.notify("queue")
        assert await next_one() == "queue"
        grant = await one.acquire(LONG)
        assert isinstance(grant, Grant)
        await one.release(grant.token)
        assert await next_one() == RELEASED
        cut = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'trainshed-leadership' AND datname = current_database()"
        )
        await db.write(lambda tx: tx.execute(text(cut)))
        assert await next_one() == CONNECTED
        # The one that sends has lost its connection too, and says so once.
        with pytest.raises(StoreUnavailable):
            await one.notify("lost")
        await one.notify("all")
        assert await next_one() == "all"
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)

    play(scenario)


def test_a_server_that_is_not_there_is_said_to_be(db: Database) -> None:
    async def main() -> None:
        gone = Coordination(db.url.set(query={"host": "/nowhere"}), "one", "first")
        with pytest.raises(StoreUnavailable, match="does not answer"):
            await gone.acquire(LONG)

    asyncio.run(main())
