"""The controller: level-triggered passes, woken by events and by a slow clock.

A pass is one transaction that compares what is wanted with what is and records decisions, followed by the engine calls
that carry them out. Nothing is acted upon before it is recorded, every engine call is idempotent, and what a crash or
a lost connection leaves undone is found again by the next full pass, which asks the engine for its whole view.

Two kinds of pass: the *quick* one applies ended gangs and places queued jobs (it runs for each event); the *full* one
also reads the engine's view and advances clusters, nodes and deletions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import structlog
from sqlalchemy import Connection

from trainshed.control.actions import Actions, AddNodes, ClusterPlan, EnsureFileServer, StartGang, StopGang
from trainshed.control.cascade import delete_parents
from trainshed.control.clusters import ClusterPass
from trainshed.control.dependencies import advance_dependencies
from trainshed.control.draining import is_draining, standstill, why
from trainshed.control.endings import end_jobs, stop_attempt
from trainshed.control.explaining import Explanation, QueueExplainer, Waiting, explain_fully
from trainshed.control.file_servers import advance_file_servers, record_refused
from trainshed.control.finishing import finish_stale_operations
from trainshed.control.fleet import Fleet, note_away, queues
from trainshed.control.housekeeping import Housekeeping
from trainshed.control.locked import Opener, Resolve, Unseal, no_keyvault
from trainshed.control.mirroring import mirror_nodes
from trainshed.control.nodes import missing_nodes, refused_nodes, sync_gangs, sync_nodes, unwanted_clusters
from trainshed.control.outcomes import record_start, settle
from trainshed.control.placing import Held, place_jobs
from trainshed.control.settings import ControlSettings
from trainshed.control.settling import let_go_or_take_up, settle_gangs
from trainshed.engines.protocol import (
    Engine,
    EngineError,
    EngineUnavailable,
    EngineView,
    GangResult,
    GangStatus,
)
from trainshed.resources.engines import DEFAULT_ENGINE
from trainshed.resources.keyvault import SecretUnavailable
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.store import attempts, jobs, nodes, removals
from trainshed.store.database import Database, FencedDatabase
from trainshed.store.errors import StaleLeader
from trainshed.store.records import ClusterRecord, JobRecord

log = structlog.get_logger(__name__)

#: Seconds beyond an attempt's wall clock after which the controller stops it itself; the runner does so first.
WALL_CLOCK_BACKSTOP_SECONDS = 60.0

#: Seconds of life after which an attempt's start is recorded.
RECORD_START_SECONDS = 0.25

#: Seconds that a growing queue gathers before an auto-scaled cluster is looked at.
GROWTH_PAUSE_SECONDS = 0.1


class Controller:
    """Owns the loops of one service."""

    def __init__(
        self,
        db: Database | FencedDatabase,
        engine: Engine,
        unseal: Unseal,
        settings: ControlSettings,
        resolve: Resolve = no_keyvault,
    ) -> None:
        self._db = db
        self._engine = engine
        self._opener = Opener(unseal, resolve)
        self._settings = settings
        self._house = Housekeeping(db, settings)
        self._wake = asyncio.Event()
        self._full = True
        self._ended: dict[str, GangStatus] = {}
        self._held = Held()
        #: Attempts that the engine has taken on and that are not yet recorded as running.
        self._started: dict[str, float] = {}
        #: Attempts whose start is under way: a key vault may take its time, and is not asked twice meanwhile.
        self._starting: set[str] = set()
        #: The last look found no idle node anywhere: until something ends, a longer queue starts nothing.
        self._full_house = False
        #: Requests for nodes that are under way: the engine's view may not yet show what comes of them.
        self._adding = 0
        #: Whether any engine answered the last time; and whether the service's own did.
        self._reached = False
        self._available = False
        #: Engines that have been told of all their clusters since this service started, or since they came back.
        self._introduced: frozenset[str] = frozenset()
        #: By uid, the largest size that an engine which queues has been told of a cluster.
        self._told: dict[str, int | None] = {}
        self._growth: asyncio.TimerHandle | None = None
        #: The next moment (Unix ms) at which a job that failed is to be tried again, and what wakes the loop then.
        self._alarm: tuple[int, asyncio.TimerHandle] | None = None
        self._loop: asyncio.Task[None] | None = None
        self._calls: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Connect to the engine and begin."""
        await self._engine.start(self._on_engine_event)
        self._reached = self._available = True
        self._loop = asyncio.create_task(self._run(), name="controller")
        self.wake()

    async def stop(self) -> None:
        """Stop deciding; whatever runs goes on, and the engine stays connected."""
        if self._loop is not None:
            self._loop.cancel()
            self._clear_alarm()
            await asyncio.gather(self._loop, return_exceptions=True)
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)

    def wake(self) -> None:
        """Somebody changed what is wanted: look at everything now."""
        self._full = True
        self._wake.set()

    def wake_queue(self) -> None:
        """Jobs came, or are to end: look at the queue now."""
        self._wake.set()

    @property
    def engine_available(self) -> bool:
        """Whether the service's own engine answered the last time it was asked."""
        return self._available

    @property
    def engines_reached(self) -> bool:
        """Whether any engine answered the last time; which of them did not is recorded with each view."""
        return self._reached

    def explain(self, tx: Connection, job: JobRecord) -> Reason:
        """Why this queued job waits, and what would change it."""
        return why(tx, job, self._settings, engine_available=self._reached)

    def explain_fully(self, tx: Connection, job: JobRecord) -> Explanation:
        """The same with when it starts, as a range, and which nodes it cannot have."""
        return explain_fully(tx, job, self._settings, self.explain(tx, job))

    def queue(self, tx: Connection, cluster: ClusterRecord, limit: int) -> list[Waiting]:
        """The jobs that wait for the cluster, in the order in which they are served, at most ``limit``, with why."""
        why_none = standstill(tx, self._settings)
        explainer = QueueExplainer(tx, cluster, self._settings, engine_available=self._reached, standstill=why_none)
        return explainer.queue(limit)

    def _on_engine_event(self, status: GangStatus | None) -> None:
        if status is not None and status.result is not None:
            self._ended[status.attempt_id] = status
            self._wake.set()
        else:
            self.wake()

    async def _run(self) -> None:
        while True:
            try:
                # Not wait_for: before Python 3.12 it may swallow a cancellation.
                async with asyncio.timeout(self._settings.slow_clock_seconds):
                    await self._wake.wait()
            except TimeoutError:
                self._full = True
            self._wake.clear()
            full, self._full = self._full, False
            try:
                if full:
                    await self._full_pass()
                else:
                    await self._quick_pass()
            except EngineUnavailable as error:
                self._reached = self._available = False
                log.warning("engine unavailable", reason=error.reason.text)
            except StaleLeader as error:
                log.warning("the controller stops", reason=str(error))
                return
            except Exception:
                # A pass that fails must not end the loop: the next one starts from what is recorded.
                log.exception("controller pass failed")
                self._full = True
                await asyncio.sleep(1.0)

    async def _quick_pass(self) -> None:
        now = self._settings.clock()
        ended, self._ended = self._ended, {}
        started = self._take_started(ended)
        try:
            actions = await self._db.write(lambda tx: self._advance_jobs(tx, Actions(), ended, started, now))
        except BaseException:
            self._ended = {**ended, **self._ended}
            raise
        self._carry_out(actions)
        self._set_alarm(actions.due, now)
        if actions.grow and self._growth is None:
            self._growth = asyncio.get_running_loop().call_later(GROWTH_PAUSE_SECONDS, self.wake)

    async def _full_pass(self) -> None:
        ended, self._ended = self._ended, {}
        try:
            self._growth = None
            whole = self._adding == 0
            view = await self._engine.view()
            if self._engine.traits.queues:
                view = replace(view, mirrored=frozenset(view.clusters))
            self._reached, self._available = True, self._engine.name not in view.absent
            now = self._settings.clock()
            started = self._take_started(ended)
            actions = await self._db.write(lambda tx: self._advance_all(tx, view, whole, ended, started, now))
        except BaseException:
            self._ended = {**ended, **self._ended}
            raise
        self._introduced = frozenset(self._settings.engines) - set(view.absent)
        self._carry_out(actions)
        if self._house.sweep_is_due():
            self._call(self._house.remove_kept_logs())
        self._set_alarm(actions.due, now)
        if actions.again:
            self.wake()

    def _advance_all(
        self, tx: Connection, view: EngineView, whole: bool, ended: dict[str, GangStatus], started: list[str], now: int
    ) -> Actions:
        """``whole``: no request for nodes was under way when the engine was asked for its view."""
        actions = Actions()
        fleet = Fleet(tx, self._settings, view.absent)
        note_away(tx, view.absent)
        sync_nodes(tx, view, fleet, actions, now)
        mirror_nodes(tx, view, fleet, now)
        sync_gangs(tx, view, fleet, self._settings, actions, now)
        if whole:
            # Asked twice, a request may be refused once and granted once.
            missing_nodes(tx, view, fleet, self._settings, actions, now)
            unwanted_clusters(tx, view, actions)
        self._stop_overdue(tx, actions, now)
        delete_parents(tx, actions, now)
        advance_file_servers(tx, view, actions, now, introduce=DEFAULT_ENGINE not in self._introduced)
        actions.remove_directories += removals.pending(tx)
        finish_stale_operations(tx, now)
        clusters = ClusterPass(
            tx,
            actions,
            self._settings,
            now,
            fleet=fleet,
            view_nodes={node.node_id for node in view.nodes},
            view_whole=whole,
            introduced=self._introduced,
            told=self._told,
        )
        clusters.run()
        self._held = Held(
            draining=frozenset(clusters.draining),
            refused=frozenset(clusters.refused),
            automatic=clusters.automatic,
            away=frozenset(clusters.away),
            queueing=clusters.queueing,
            preempting=clusters.preempting,
        )
        self._full_house = False
        advance_dependencies(tx, actions, now)
        actions.wake_at(jobs.next_due(tx, now))
        return self._advance_jobs(tx, actions, ended, started, now)

    def _advance_jobs(
        self, tx: Connection, actions: Actions, ended: dict[str, GangStatus], started: list[str], now: int
    ) -> Actions:
        for attempt_id in started:
            record_start(tx, attempt_id, now)
        draining = is_draining(tx, self._settings)
        statuses = tuple(ended.values())
        settle_gangs(tx, statuses, actions, self._settings, now)
        let_go_or_take_up(tx, statuses, actions, self._settings, now, draining=draining)
        end_jobs(tx, actions, now)
        if draining and is_draining(tx, self._settings):
            # Should it be taken back, nodes that are idle now are to be looked at.
            self._full_house = False
        elif not self._full_house or ended:
            away = "" if self._available else DEFAULT_ENGINE
            place_jobs(tx, actions, self._held, self._settings, now, away)
            watched = self._held.automatic or self._held.preempting or self._held.queueing
            self._full_house = not watched and not nodes.any_idle(tx)
        if actions.released:
            self.wake_queue()
        return actions

    def _set_alarm(self, due: int | None, now: int) -> None:
        """Look at everything when a job may be tried again, rather than at the next turn of the slow clock."""
        if due is None or (self._alarm is not None and self._alarm[0] <= due):
            return
        self._clear_alarm()
        seconds = max(0, due - now) / 1000
        self._alarm = (due, asyncio.get_running_loop().call_later(seconds, self._ring))

    def _clear_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm[1].cancel()
            self._alarm = None

    def _ring(self) -> None:
        self._alarm = None
        self.wake()

    def _take_started(self, ended: dict[str, GangStatus]) -> list[str]:
        """Attempts that have run for a moment: one that ends at once needs no record of having started.

        Before the transaction, whose function runs in another thread and perhaps twice. Starts whose record is lost
        with it are found again in the engine's view.
        """
        ripe = asyncio.get_running_loop().time() - RECORD_START_SECONDS
        due = [attempt_id for attempt_id, since in self._started.items() if since <= ripe or attempt_id in ended]
        for attempt_id in due:
            del self._started[attempt_id]
        return [attempt_id for attempt_id in due if attempt_id not in ended]

    def _stop_overdue(self, tx: Connection, actions: Actions, now: int) -> None:
        for attempt in attempts.overdue(tx, now - int(WALL_CLOCK_BACKSTOP_SECONDS * 1000)):
            reason = Reason(
                ReasonCode.JOB_WALL_CLOCK_EXCEEDED,
                "The job ran longer than its maxWallClockTime and was stopped.",
            )
            stop_attempt(tx, attempt, reason, "fail", actions, now)

    # What follows runs after the commit. Calls do not hold up the loop; a failed one is made good by a full pass.

    def _carry_out(self, actions: Actions) -> None:
        if not actions.any:
            return
        if actions.forget:
            self._call(self._engine.forget_gang(tuple(actions.forget)))
        for start in actions.starts:
            if start.gang.attempt_id not in self._starting:
                self._starting.add(start.gang.attempt_id)
                self._call(self._start(start))
        for stop in actions.stops:
            self._call(self._stop(stop))
        if actions.ensure_file_servers or actions.remove_file_servers:
            self._call(self._change_file_servers(actions))
        if actions.remove_directories:
            self._call(self._house.carry_out(actions))
        if actions.ensure_clusters or actions.add_nodes or actions.remove_nodes or actions.remove_clusters:
            self._adding += bool(actions.add_nodes)
            self._call(self._change_nodes(actions))

    def _call(self, call: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(self._guarded(call))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _guarded(self, call: Coroutine[Any, Any, None]) -> None:
        try:
            await call
        except EngineUnavailable as error:
            # The engine reconnects by itself and then asks for a full pass.
            self._reached = self._reached and error.engine != ""
            self._available = self._available and error.engine not in ("", self._engine.name)
            log.warning("engine unavailable", reason=error.reason.text)
        except StaleLeader as error:
            log.warning("an engine call came to nothing", reason=str(error))
        except Exception:
            log.exception("engine call failed")

    async def _start(self, start: StartGang) -> None:
        try:
            if not start.gang.node_ids and start.gang.cluster_uid not in self._told:
                return  # The engine does not know the cluster yet: a full pass comes when it does.
            gang = await self._opener.gang(start.gang, start.secrets)
            await self._engine.start_gang(gang)
            if not start.gang.node_ids:
                return  # The engine queues: it says when it has begun.
            self._started[start.gang.attempt_id] = asyncio.get_running_loop().time()
            # A little later than it is ripe: the loop's clock may lag behind.
            asyncio.get_running_loop().call_later(1.2 * RECORD_START_SECONDS, self._wake.set)
        except EngineUnavailable:
            raise
        except SecretUnavailable as unavailable:
            # It would be the same the next time: somebody has to mend it.
            why = unavailable.reason
            await self._db.write(lambda tx: self._fail_start(tx, start.gang.attempt_id, GangResult.FAILED, why))
            self.wake()
        except EngineError as error:
            # Refused for good (a node is gone, say): the attempt never ran, so the job may be queued again.
            reason = error.reason
            await self._db.write(lambda tx: self._fail_start(tx, start.gang.attempt_id, GangResult.LOST, reason))
            self.wake()
        finally:
            self._starting.discard(start.gang.attempt_id)

    def _fail_start(self, tx: Connection, attempt_id: str, result: GangResult, reason: Reason) -> None:
        now = self._settings.clock()
        settle(
            tx,
            GangStatus(attempt_id, result, reason=reason, ended_at=now),
            now,
            self._settings.losses,
        )

    async def _stop(self, stop: StopGang) -> None:
        await self._engine.stop_gang(stop.attempt_id, stop.reason, self._settings.grace_seconds, stop.warning)

    async def _change_nodes(self, actions: Actions) -> None:
        try:
            for plan in actions.ensure_clusters:
                await self._ensure_cluster(plan)
            for addition in actions.add_nodes:
                await self._add_nodes(addition)
        finally:
            self._adding -= bool(actions.add_nodes)
        if actions.remove_nodes:
            await self._engine.remove_nodes(tuple(dict.fromkeys(actions.remove_nodes)))
        for cluster_uid in actions.remove_clusters:
            self._told.pop(cluster_uid, None)
            await self._engine.remove_cluster(cluster_uid)
        if actions.ensure_clusters or actions.add_nodes or actions.remove_clusters:
            # Of nodes that are gone the engine tells by itself: asking after each request would be a busy loop.
            self.wake()

    async def _change_file_servers(self, actions: Actions) -> None:
        for uid in actions.remove_file_servers:
            await self._engine.remove_file_server(uid)
        for wanted in actions.ensure_file_servers:
            try:
                server = await self._opener.file_server(wanted.server, wanted.secrets)
                await self._engine.ensure_file_server(server)
            except EngineUnavailable:
                raise
            except (EngineError, SecretUnavailable) as error:
                await self._refuse_file_server(wanted, error.reason)

    async def _refuse_file_server(self, wanted: EnsureFileServer, reason: Reason) -> None:
        log.warning("a file server cannot be served", file_server=wanted.server.name, reason=reason.text)
        now = self._settings.clock()
        await self._db.write(lambda tx: record_refused(tx, wanted.key, wanted.server.uid, reason, now))

    async def _ensure_cluster(self, plan: ClusterPlan) -> None:
        try:
            await self._engine.ensure_cluster(await self._opener.cluster(plan.cluster, plan.secrets))
            if queues(self._settings.engines, plan.cluster.engine):
                self._told[plan.cluster.uid] = plan.cluster.max_nodes
        except SecretUnavailable as unavailable:
            await self._refuse_nodes(plan.cluster.uid, (), unavailable.reason)

    async def _add_nodes(self, addition: AddNodes) -> None:
        plan = addition.plan
        try:
            cluster = await self._opener.cluster(plan.cluster, plan.secrets)
            await self._engine.add_nodes(cluster, addition.nodes)
        except EngineUnavailable:
            raise
        except (EngineError, SecretUnavailable) as error:
            ids = tuple(node.node_id for node in addition.nodes)
            await self._refuse_nodes(plan.cluster.uid, ids, error.reason)

    async def _refuse_nodes(self, uid: str, ids: tuple[str, ...], reason: Reason) -> None:
        """The cluster cannot have (these) nodes now; they are asked for again after a while."""
        now = self._settings.clock()
        await self._db.write(lambda tx: refused_nodes(tx, uid, ids, reason, self._settings, now))
