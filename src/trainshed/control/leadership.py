"""One controller among several processes on a PostgreSQL: the one that holds the lease, while it holds it.

Each term of leadership has a controller and an engine connection of its own, which know nothing of former terms. All
that they write is fenced by the term's token (``store.leadership``), and so is the engine (``engines.protocol``):
whatever a process that was frozen still has in hand when somebody else has taken over, it changes nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

import structlog
from sqlalchemy import Connection

from trainshed.control.draining import standstill, why
from trainshed.control.explaining import Explanation, QueueExplainer, Waiting, explain_fully
from trainshed.control.lease import LeaseTimes
from trainshed.control.notifying import Notifier
from trainshed.control.settings import ControlSettings
from trainshed.control.standing import Role, Standing
from trainshed.engines.protocol import EngineUnavailable
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.store import leadership
from trainshed.store.errors import StoreError
from trainshed.store.leadership import CONNECTED, RELEASED, Grant
from trainshed.store.records import ClusterRecord, JobRecord

if TYPE_CHECKING:
    # Its driver is an extra.
    from trainshed.store.coordination import Coordination

log = structlog.get_logger(__name__)

#: What is said to wake the leader.
_ALL, _QUEUE = "all", "queue"
#: Seconds that a process waits before it asks for the lease again after it could not use it.
_UNUSED_PAUSE = 5.0

_NOBODY_LEADS = Reason(
    ReasonCode.NO_ACTIVE_CONTROLLER,
    "No process of the service controls now, so nothing is started. One that stands by takes over when the lease of "
    "the last one ends; if this lasts, start one: trainshed serve.",
)


class Term(Protocol):
    """What controls for as long as the lease is held."""

    async def start(self) -> None:
        """Begin. Raises EngineUnavailable."""
        ...

    async def stop(self) -> None:
        """Stop deciding and let go of the engine; whatever runs goes on."""
        ...

    def wake(self) -> None:
        """Look at everything now."""
        ...

    def wake_queue(self) -> None:
        """Look at the queue now."""
        ...

    @property
    def engine_available(self) -> bool:
        """Whether the service's own engine answered the last time it was asked."""
        ...

    @property
    def engines_reached(self) -> bool:
        """Whether any engine answered the last time."""
        ...


#: Makes the term of a token; the second argument is called when a write of it was refused.
NewTerm = Callable[[int, Callable[[], None]], Term]


class Leadership:
    """This process's part: it leads, stands by, or (without ``new_term``) only tells the leader what is to be done."""

    def __init__(
        self, coordination: Coordination, settings: ControlSettings, times: LeaseTimes, new_term: NewTerm | None
    ) -> None:
        self._coordination = coordination
        self._settings = settings
        self._times = times
        self._new_term = new_term
        self._notifier = Notifier(coordination.notify)
        self._term: Term | None = None
        self._token: int | None = None
        #: Something happened that the one who stands by, or leads, should look at.
        self._nudged = asyncio.Event()
        self._lost = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to stand by, if this process may lead, and to listen."""
        self._tasks = [asyncio.create_task(self._notifier.run(), name="notifier")]
        if self._new_term is not None:
            self._tasks.append(asyncio.create_task(self._coordination.listen(self._heard), name="listener"))
            self._tasks.append(asyncio.create_task(self._run(self._new_term), name="leadership"))

    async def stop(self) -> None:
        """Stop leading, and give the lease back, so that another takes over at once."""
        for task in reversed(self._tasks):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._coordination.close()

    def wake(self) -> None:
        """Somebody changed what is wanted: have the leader look at everything."""
        if self._term is not None:
            self._term.wake()
        else:
            self._notifier.say(_ALL)

    def wake_queue(self) -> None:
        """Jobs came, or are to end: have the leader look at the queue."""
        if self._term is not None:
            self._term.wake_queue()
        else:
            self._notifier.say(_QUEUE)

    @property
    def engine_available(self) -> bool:
        """Whether the engine answered the last time; True where this process needs none."""
        return self._term is None or self._term.engine_available

    @property
    def leads(self) -> bool:
        """Whether this process controls."""
        return self._term is not None

    def explain(self, tx: Connection, job: JobRecord) -> Reason:
        """Why this queued job waits, and what would change it."""
        if self._term is not None:
            return why(tx, job, self._settings, engine_available=self._term.engines_reached)
        lease = leadership.current(tx)
        if lease is None or not lease.held:
            return _NOBODY_LEADS
        return why(tx, job, self._settings, engine_available=lease.engine_available)

    def explain_fully(self, tx: Connection, job: JobRecord) -> Explanation:
        """The same with when it starts, as a range, and which nodes it cannot have."""
        return explain_fully(tx, job, self._settings, self.explain(tx, job))

    def queue(self, tx: Connection, cluster: ClusterRecord, limit: int) -> list[Waiting]:
        """The jobs that wait for the cluster, in the order in which they are served, at most ``limit``, with why."""
        lease = leadership.current(tx)
        leads = self._term is not None or (lease is not None and lease.held)
        available = self._term.engines_reached if self._term is not None else bool(lease and lease.engine_available)
        explainer = QueueExplainer(
            tx,
            cluster,
            self._settings,
            engine_available=available,
            standstill=standstill(tx, self._settings) if leads else _NOBODY_LEADS,
        )
        return explainer.queue(limit)

    def standing(self, tx: Connection) -> Standing:
        """Who leads, and what this process is."""
        lease = leadership.current(tx)
        held = lease is not None and lease.held
        follower = Role.API if self._new_term is None else Role.STANDBY
        role = Role.LEADER if self._term is not None else follower
        return Standing(
            role,
            leader=lease.name if lease is not None and held else None,
            token=lease.token if lease is not None and held else None,
            since=lease.acquired_at if lease is not None and held else None,
        )

    def _heard(self, notice: str) -> None:
        if notice == RELEASED:
            self._nudged.set()
        elif self._term is not None:
            if notice == _QUEUE:
                self._term.wake_queue()
            elif notice in (_ALL, CONNECTED):
                self._term.wake()

    async def _run(self, new_term: NewTerm) -> None:
        while True:
            try:
                token, asked_at = await self._stand_by()
                await self._lead(new_term, token, asked_at)
            except Exception:
                log.exception("leadership failed")
                await asyncio.sleep(_UNUSED_PAUSE)

    async def _stand_by(self) -> tuple[int, float]:
        """The token of the lease once this process has it, and when it was asked for."""
        said = ""
        while True:
            self._nudged.clear()
            asked_at = time.monotonic()
            try:
                answer = await self._coordination.acquire(self._times.seconds)
                if isinstance(answer, Grant):
                    return answer.token, asked_at
                said, pause = "", self._times.until_asked_for(answer.seconds)
            except StoreError as error:
                if str(error) != said:
                    said = str(error)
                    log.warning("the lease cannot be asked for", reason=said)
                pause = self._times.until_asked_for(0)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._nudged.wait()

    async def _lead(self, new_term: NewTerm, token: int, asked_at: float) -> None:
        """A term: until the lease is lost, or this is cancelled."""
        log.info("this process leads", token=token)
        self._lost.clear()
        term = new_term(token, self._lost.set)
        starting = asyncio.create_task(self._begin(term))
        released = False
        try:
            await self._hold(token, asked_at, term, starting)
        finally:
            self._term = None
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            await term.stop()
            with suppress(StoreError):
                # Nothing is in hand any more. Where the lease is another's already, this changes nothing.
                await self._coordination.release(token)
                released = True
            log.info("this process leads no more", token=token, released=released)

    async def _begin(self, term: Term) -> None:
        await term.start()
        self._term = term

    async def _hold(self, token: int, asked_at: float, term: Term, starting: asyncio.Task[None]) -> None:
        """Renew the lease until it cannot be, or the term cannot begin."""
        confirmed_at = asked_at
        failed = renew_now = False
        lost = asyncio.create_task(self._lost.wait())
        renewal: asyncio.Task[bool] | None = None
        watched: asyncio.Task[None] | None = starting
        try:
            while True:
                now = time.monotonic()
                over = self._times.until_over(confirmed_at, now)
                if over == 0.0 or self._lost.is_set():
                    log.warning("the lease is lost", token=token, why="refused" if over else "not renewed in time")
                    return
                if renewal is None:
                    pause = self._times.until_renewal(asked_at, now, failed=failed)
                    if pause == 0.0 or renew_now:
                        asked_at, renew_now = now, False
                        available = self._term is not None and term.engines_reached
                        renewal = asyncio.create_task(
                            self._coordination.renew(token, self._times.seconds, engine_available=available)
                        )
                        pause = over
                else:
                    pause = over
                waited: set[asyncio.Task[None] | asyncio.Task[bool]] = {lost}
                waited |= {task for task in (renewal, watched) if task is not None}
                await asyncio.wait(waited, timeout=min(pause, over), return_when=asyncio.FIRST_COMPLETED)
                if watched is not None and watched.done():
                    if not self._began(watched):
                        # Another process may be luckier, and gets the time to try.
                        await self._coordination.release(token)
                        await asyncio.sleep(_UNUSED_PAUSE)
                        return
                    # At once, so that all processes know that the engine is there.
                    watched, renew_now = None, True
                if renewal is not None and renewal.done():
                    try:
                        if not renewal.result():
                            self._lost.set()
                        confirmed_at, failed = asked_at, False
                    except StoreError as error:
                        failed = True
                        log.warning("the lease was not renewed", reason=str(error))
                    renewal = None
        finally:
            for task in (lost, renewal):
                if task is not None:
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)

    def _began(self, starting: asyncio.Task[None]) -> bool:
        try:
            starting.result()
        except EngineUnavailable as error:
            log.warning("this process cannot lead", reason=error.reason.text)
            return False
        return True
