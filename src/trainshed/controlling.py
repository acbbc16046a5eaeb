"""Who controls: this process alone (SQLite), or one of several that share a PostgreSQL and a home."""

from __future__ import annotations

import contextlib
import os
import socket
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection

from trainshed.control.controller import Controller
from trainshed.control.explaining import Explanation, Waiting
from trainshed.control.leadership import Leadership
from trainshed.control.lease import LeaseTimes
from trainshed.control.locked import Resolve, Unseal
from trainshed.control.settings import ControlSettings
from trainshed.control.standing import Role, Standing
from trainshed.engines.kinds import Engines
from trainshed.engines.local.layout import Layout
from trainshed.engines.protocol import Engine, Leader
from trainshed.home_sharing import Members, home_id, one_of_several, require_own
from trainshed.resources.reasons import Reason
from trainshed.service_home import only_service_of
from trainshed.store import meta
from trainshed.store.database import Database, FencedDatabase
from trainshed.store.records import ClusterRecord, JobRecord
from trainshed.volumes.embedded import EmbeddedStorage

#: Facts in ``meta``, of a database that several processes use: what names it, the home that it belongs to, and why
#: others than its administrator may reach one of the processes.
_DATABASE, _HOME, _REACHED = "database", "home", "reached"


@dataclass(frozen=True, slots=True)
class Holding:
    """A home and its database, held for this process."""

    db: Database
    #: What names the database; empty when nobody else can use it meanwhile.
    database: str
    members: Members

    @property
    def shared(self) -> bool:
        """Whether other processes may be there too."""
        return self.database != ""


class Control(Protocol):
    """The control loops as the rest of the service sees them."""

    async def start(self) -> None:
        """Begin. Raises EngineUnavailable where this process must reach the engine and cannot."""
        ...

    async def stop(self, *, stop_nodes: bool) -> None:
        """Stop deciding; whatever runs goes on, unless ``stop_nodes`` and no other process is there."""
        ...

    @property
    def wake(self) -> Callable[[], None]:
        """Somebody changed what is wanted: have everything looked at."""
        ...

    @property
    def wake_queue(self) -> Callable[[], None]:
        """Jobs came, or are to end: have the queue looked at."""
        ...

    @property
    def explain(self) -> Callable[[Connection, JobRecord], Reason]:
        """Why a queued job waits, and what would change it."""
        ...

    @property
    def explain_fully(self) -> Callable[[Connection, JobRecord], Explanation]:
        """The same with when it starts, and which nodes it cannot have."""
        ...

    @property
    def queue(self) -> Callable[[Connection, ClusterRecord, int], list[Waiting]]:
        """The jobs that wait for a cluster, in order, at most so many, with why."""
        ...

    @property
    def standing(self) -> Callable[[Connection], Standing]:
        """What this process is, and who controls."""
        ...

    @property
    def engine_available(self) -> bool:
        """Whether the engine can be used, where this process needs it."""
        ...


@contextlib.contextmanager
def hold(home: Path, url: str) -> Iterator[Holding]:
    """Open the database and hold the home, alone or together with other processes of a PostgreSQL.

    Raises AlreadyRunning, ForeignHome, StoreError.
    """
    with contextlib.ExitStack() as stack:
        if is_sqlite(url):
            stack.enter_context(only_service_of(home))
        db = Database.open(url)
        stack.callback(db.close_sync)
        if db.dialect == "sqlite":
            yield Holding(db, "", Members())
            return
        own = home_id(home)
        database, recorded = db.write_sync(lambda tx: (_fact(tx, _DATABASE, uuid.uuid4().hex), _fact(tx, _HOME, own)))
        require_own(home, own, recorded)

        def when_alone() -> None:
            # No former leader is left: nothing of it has to be turned away, and nobody reaches it any more.
            Layout(home).leader.unlink(missing_ok=True)
            EmbeddedStorage(home).forget_marks()
            db.write_sync(lambda tx: meta.set(tx, _REACHED, ""))

        yield Holding(db, database, stack.enter_context(one_of_several(home, database, when_alone)))


def is_sqlite(url: str) -> bool:
    """Whether the database is a file, which one process has for itself."""
    return url.partition(":")[0].partition("+")[0] == "sqlite"


def note_reached(holding: Holding, why: str) -> None:
    """Others than the administrator may reach this process: whichever process leads has to know."""
    if holding.shared and why:
        holding.db.write_sync(lambda tx: meta.set(tx, _REACHED, why))


def is_reached(tx: Connection) -> bool:
    """Whether others than the administrator may reach one of the processes."""
    return bool(meta.get(tx, _REACHED))


def make_control(
    holding: Holding,
    home: Path,
    role: str,
    times: LeaseTimes,
    settings: ControlSettings,
    unseal: Unseal,
    resolve: Resolve,
    engines: Engines,
) -> Control:
    """``role``: ``all``, ``api`` or ``controller``; the last two only where the home is shared."""
    if not holding.shared:
        return SoleControl(holding.db, engines.make(home), settings, unseal, resolve)

    # Its driver is an extra, which who uses SQLite need not have.
    from trainshed.store.coordination import Coordination

    def new_term(token: int, on_stale: Callable[[], None]) -> EngineTerm:
        engine = engines.make(home, Leader(holding.database, token))
        return EngineTerm(
            Controller(FencedDatabase(holding.db, token, on_stale), engine, unseal, settings, resolve), engine
        )

    coordination = Coordination(holding.db.url, uuid.uuid4().hex, f"{socket.gethostname()} pid {os.getpid()}")
    leadership = Leadership(coordination, settings, times, None if role == "api" else new_term)
    return SharedControl(leadership, holding.members, lambda: engines.make(home))


class SoleControl:
    """One process does all, and is done when it ends."""

    def __init__(
        self, db: Database, engine: Engine, settings: ControlSettings, unseal: Unseal, resolve: Resolve
    ) -> None:
        self._engine = engine
        self._controller = Controller(db, self._engine, unseal, settings, resolve)
        self.wake = self._controller.wake
        self.wake_queue = self._controller.wake_queue
        self.explain = self._controller.explain
        self.explain_fully = self._controller.explain_fully
        self.queue = self._controller.queue

    async def start(self) -> None:
        """See ``Control``."""
        await self._controller.start()

    async def stop(self, *, stop_nodes: bool) -> None:
        """See ``Control``."""
        await self._controller.stop()
        if stop_nodes:
            await self._engine.shut_down()
        await self._engine.close()

    def standing(self, tx: Connection) -> Standing:
        """There is nobody else."""
        return Standing(Role.SOLE)

    @property
    def engine_available(self) -> bool:
        """See ``Controller``."""
        return self._controller.engine_available


class EngineTerm:
    """A controller with its own connection to the engines, for one term of leadership."""

    def __init__(self, controller: Controller, engine: Engine) -> None:
        self._controller = controller
        self._engine = engine
        self.wake = controller.wake
        self.wake_queue = controller.wake_queue

    async def start(self) -> None:
        """See ``control.leadership.Term``."""
        await self._controller.start()

    async def stop(self) -> None:
        """See ``control.leadership.Term``."""
        await self._controller.stop()
        await self._engine.close()

    @property
    def engine_available(self) -> bool:
        """See ``Controller``."""
        return self._controller.engine_available

    @property
    def engines_reached(self) -> bool:
        """See ``Controller``."""
        return self._controller.engines_reached


class SharedControl:
    """One of several processes."""

    def __init__(self, leadership: Leadership, members: Members, make_engine: Callable[[], Engine]) -> None:
        self._leadership = leadership
        self._members = members
        self._make_engine = make_engine
        self.start = leadership.start
        self.wake = leadership.wake
        self.wake_queue = leadership.wake_queue
        self.explain = leadership.explain
        self.explain_fully = leadership.explain_fully
        self.queue = leadership.queue
        self.standing = leadership.standing

    async def stop(self, *, stop_nodes: bool) -> None:
        """See ``Control``."""
        await self._leadership.stop()
        if stop_nodes:
            with self._members.alone() as alone:
                if alone:
                    engine = self._make_engine()
                    await engine.shut_down()
                    await engine.close()

    @property
    def engine_available(self) -> bool:
        """See ``Leadership``."""
        return self._leadership.engine_available


def _fact(tx: Connection, key: str, value: str) -> str:
    """What is known under the key, which is ``value`` from now on when nothing was."""
    known = meta.get(tx, key)
    if known is None:
        meta.set(tx, key, value)
    return value if known is None else known
