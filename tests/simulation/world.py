"""One run: a service that lives, dies and comes again, machines, users and faults; then a quiet end.

While faults are on, only safety is checked. Then they end, quotas and machines suffice, and everything must come to an
end: jobs that can run have ended, nodes are as many as they should be, and at last nothing is left in the engine.
"""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import structlog
from sqlalchemy import Connection

from tests.simulation import loop as virtual
from tests.simulation.chance import RECURRING, Profile, dice
from tests.simulation.engine import Outage, SimulatedEngine
from tests.simulation.invariants import Context
from tests.simulation.machines import Machines
from tests.simulation.queueing import fits
from tests.simulation.reasons import LASTING
from tests.simulation.site import Site
from tests.simulation.snapshot import operations_in_progress
from tests.simulation.store import SimulatedDatabase, Store, store
from tests.simulation.story import Story, Violation
from tests.simulation.user import User
from tests.simulation.watch import Watch
from trainshed.control.controller import Controller
from trainshed.control.settings import ControlSettings
from trainshed.engines.protocol import EngineTraits, EngineUnavailable, NodeCondition
from trainshed.resources.quotas import Quotas, family_cores
from trainshed.store.database import Database
from trainshed.store.errors import StoreUnavailable

#: Unix ms at which every run begins.
EPOCH = 1_800_000_000_000
#: Virtual seconds in which everything must have ended once the faults have.
PATIENCE = 600.0


class Life:
    """The service from a start to its end."""

    def __init__(self, world: World) -> None:
        profile = world.profile
        self.database = SimulatedDatabase(
            world.store,
            world.roll,
            latency=profile.latency,
            happens=world.happens,
            committed=world.committed,
            kill=world.kill,
        )
        self.engine = SimulatedEngine(
            world.machines,
            world.roll,
            world.outage,
            latency=profile.latency,
            happens=world.happens,
            queues=profile.queues,
        )
        # The double has all that the controller uses of a database.
        database = cast(Database, self.database)
        self.controller = Controller(database, self.engine, lambda sealed, owner: sealed.decode(), world.settings)
        self.started = False


class World:
    """Everything of one seed."""

    def __init__(self, seed: int, profile: Profile | None = None, *, only: str | None = None) -> None:
        self.seed = seed
        self.profile = profile or Profile.of(seed)
        self.story = Story(only)
        self.store: Store = store()
        #: Of delays and of which message a fault hits; users and machines have their own.
        self.roll = dice(seed, "faults")
        self.outage = Outage()
        self.quiet = False
        self._ids = dice(seed, "ids")
        self.settings = ControlSettings(
            slow_clock_seconds=self.profile.slow_clock,
            grace_seconds=1.0,
            lost_attempts_limit=4,
            allocation_retry_seconds=8.0,
            engines={"local": EngineTraits(queues=self.profile.queues)},
            quotas=Quotas(everyone={family_cores("D", "dedicated"): self.profile.cores}),
            clock=lambda: EPOCH + round(1000 * self.now),
            new_id=lambda: f"{self._ids.getrandbits(64):016x}",
        )
        kind = Site if self.profile.queues else Machines
        self.machines: Machines = kind(
            self.profile, dice(seed, "machines"), self.story, self.happens, self.settings.clock
        )
        self.user = User(self.profile, dice(seed, "user"), self.story, self.settings, self._write)
        self.context = Context(self.settings, self.user.accepted, self.machines.truth)
        self.watch = Watch(self.store, self.story, self.context, dice(seed, "watch"))
        self.life: Life | None = None

    def run(self) -> Story:
        """To the end, or to the first violation, which is in the story."""
        with self.store.fresh(), self._logs():
            try:
                virtual.run(self._main())
            except Violation:
                pass
            except (virtual.NothingLeft, virtual.Endless) as error:
                self.story.violated("everything-ends", str(error))
        return self.story

    @property
    def now(self) -> float:
        """Virtual seconds since the beginning."""
        return asyncio.get_running_loop().time()

    def happens(self, fault: str) -> bool:
        """Whether a single fault hits this time."""
        probability = self.profile.faults.get(fault)
        if probability is None or self.quiet or self.roll.random() >= probability:
            return False
        self._tell("fault", fault)
        self.story.count(f"fault: {fault}")
        return True

    def committed(self) -> None:
        """A transaction is in the database."""
        self.story.now = self.now
        life = self.life
        if life is not None and life.started:
            self.watch.step(life.controller.explain, engine_available=life.controller.engine_available)
        else:
            self.watch.step(None, engine_available=False)

    def kill(self, where: str) -> None:
        """The service is killed: its memory is gone, and what it asked for arrives or not."""
        life, self.life = self.life, None
        if life is None:
            return
        self._tell("killed", where)
        self.story.count(f"killed {where}")
        life.database.alive = life.engine.alive = False
        life.engine.delivers = self.roll.random() < 0.5
        for task in asyncio.all_tasks():
            if task is not self._task:
                task.cancel()
        asyncio.get_running_loop().call_later(0.2 + 3 * self.roll.random(), self._begin_life, life)

    def _begin_life(self, former: Life | None = None) -> None:
        if former is not None:
            former.engine.alive = former.engine.delivers = False
        if self.life is None:
            self.life = Life(self)
            self._start(self.life)

    def _start(self, life: Life) -> None:
        if self.life is life:
            asyncio.get_running_loop().create_task(self._connect(life))

    async def _connect(self, life: Life) -> None:
        try:
            await life.controller.start()
        except EngineUnavailable:
            asyncio.get_running_loop().call_later(1.0, self._start, life)
        else:
            life.started = True
            self._tell("service is up")

    async def _restart(self, life: Life) -> None:
        """A clean stop: what was asked of the database is carried out, calls that were sent arrive."""
        self._tell("service restarts")
        self.story.count("service restarted")
        await life.controller.stop()
        if self.life is life:
            await asyncio.sleep(life.engine.settled_in())
            if self.life is life:
                self.life = None
                life.database.alive = False
                self._begin_life(life)

    async def _main(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self.watch.step(None, engine_available=False)
        self._begin_life()
        self.user.begin()
        for fault in RECURRING:
            self._schedule(fault)
        self._user_later()
        await self._until(self.profile.length, lambda: False)
        await self._end()

    async def _end(self) -> None:
        self._tell("faults end")
        self.quiet = True
        self.outage.on = False
        self.machines.capacity = 1_000_000
        if isinstance(self.machines, Site):
            self.machines.grow()
        object.__setattr__(self.settings, "quotas", Quotas())
        self.user.lift_budgets()
        for node in list(self.machines.nodes.values()):
            if node.condition is NodeCondition.UNUSABLE and not node.removing:
                self.machines.reboot(node)
        self._begin_life()
        await self._all_of(self._unfinished)
        life = self.life
        assert life is not None
        for job in self.watch.waiting():
            reason = self.watch.ask(job, life.controller.explain, engine_available=True)
            if reason.code not in LASTING:
                text = f"job {job.name} waits for ever, and is told {reason.code.value}: {reason.text}"
                self.story.violated("every-wait-has-a-reason", text)
        self.user.terminate_rest()
        life.controller.wake_queue()
        await self._all_of(lambda: [*self._unfinished(), *self._waiting(), *self._oversized()])
        self.user.delete_clusters()
        life.controller.wake()
        await self._all_of(self._left)

    async def _all_of(self, pending: Callable[[], Any]) -> None:
        """Wait until nothing is pending any more."""
        if not await self._until(PATIENCE, lambda: not list(pending())):
            self.story.violated("everything-ends", "; ".join(pending()))
        self._raise()

    def _unfinished(self) -> Iterator[str]:
        """What must come to an end although nobody does anything any more."""
        snapshot = self.watch.snapshot
        for attempt in snapshot.attempts.values():
            if attempt.live:
                yield f"attempt {attempt.id} is {attempt.state}"
        for job in snapshot.jobs.values():
            if job.state == "deleting" or job.execution == "terminating":
                yield f"job {job.name} is {job.state} and {job.execution}"
            elif job.execution == "queued" and fits(job, snapshot, self.context):
                yield f"job {job.name} is queued although it fits"
            elif job.execution == "queued" and (job.not_before or 0) > self.settings.clock():
                yield f"job {job.name} waits to be tried again"
        for cluster in snapshot.clusters.values():
            members = [node for node in snapshot.nodes.values() if node.cluster_uid == cluster.uid]
            ready = sum(1 for node in members if node.state == "ready")
            auto = cluster.settings.get("autoScale")
            low = auto["minimumNodeCount"] if auto else cluster.largest
            if cluster.state != "succeeded" or cluster.allocation != "steady":
                yield f"cluster {cluster.name} is {cluster.state} and {cluster.allocation}"
            limited = low <= ready <= cluster.largest or self.profile.queues
            if ready != len(members) or not limited:
                yield f"cluster {cluster.name} has nodes {[node.state for node in members]} of {cluster.scale}"
        if self.life is None or not self.life.controller.engine_available:
            yield "the service has not reached the engine"
        for verb, key in operations_in_progress(self.store.driver):
            yield f"operation {verb} of {key} is in progress"
        for gang in self.machines.gangs:
            yield f"the engine has still attempt {gang}"
        if isinstance(self.machines, Site):
            yield from self._unfinished_site(self.machines)
        elif self.machines.nodes.keys() != snapshot.nodes.keys():
            yield f"the engine has nodes {sorted(self.machines.nodes)}, recorded are {sorted(snapshot.nodes)}"

    def _unfinished_site(self, site: Site) -> Iterator[str]:
        recorded, clusters = len(self.watch.snapshot.nodes), len(self.watch.snapshot.clusters)
        if recorded != clusters * len(site.nodes):
            yield f"{recorded} nodes are recorded, the engine shows {len(site.nodes)} to each of {clusters} clusters"
        for attempt_id in site.queued_again.values():
            yield f"the engine has queued the work of attempt {attempt_id} again, and nobody took it up or dropped it"

    def _waiting(self) -> Iterator[str]:
        for job in self.watch.waiting():
            yield f"job {job.name} waits although it was terminated"

    def _oversized(self) -> Iterator[str]:
        """Auto-scaled clusters without jobs come down to their minimum."""
        for cluster in self.watch.snapshot.clusters.values():
            auto = cluster.settings.get("autoScale")
            there = sum(1 for node in self.watch.snapshot.nodes.values() if node.cluster_uid == cluster.uid)
            if auto and not self.profile.queues and there != auto["minimumNodeCount"]:
                yield f"cluster {cluster.name} has {there} nodes and nothing to do: {cluster.scale}"

    def _left(self) -> Iterator[str]:
        """What may not be there after all clusters are deleted."""
        yield from self._unfinished()
        for cluster in self.watch.snapshot.clusters.values():
            yield f"cluster {cluster.name} is still there"
        for uid in self.machines.clusters:
            yield f"the engine has still cluster {uid}"

    async def _until(self, seconds: float, done: Callable[[], bool]) -> bool:
        end = self.now + seconds
        while self.now < end:
            await asyncio.sleep(1.0)
            self._raise()
            if done():
                return True
        return False

    def _raise(self) -> None:
        if self.story.violation is not None:
            raise self.story.violation

    def _tell(self, what: str, *about: object) -> None:
        self.story.now = self.now
        self.story.tell(what, *about)

    def _write(self, call: Callable[[Connection], Any]) -> Any:
        """A user's transaction: accepted when this returns."""
        self.story.now = self.now
        value = self.store.write(call)
        self.committed()
        return value

    # Users and faults that come by themselves.

    def _user_later(self) -> None:
        pace = self.profile.length / (2 * self.profile.jobs + 6)
        asyncio.get_running_loop().call_later(self.roll.expovariate(1 / pace), self._user_acts)

    def _user_acts(self) -> None:
        if self.quiet:
            return
        if self.life is not None:
            try:
                queue_only = self.user.act()
            except Exception as error:
                where = "".join(traceback.format_tb(error.__traceback__)[-2:])
                self.story.violated("no-pass-fails", f"a request failed: {error!r}\n{where}")
                return
            if self.life is not None:
                controller = self.life.controller
                (controller.wake_queue if queue_only else controller.wake)()
        self._user_later()

    def _schedule(self, fault: str) -> None:
        rate = self.profile.faults.get(fault)
        if rate is not None:
            asyncio.get_running_loop().call_later(self.roll.expovariate(rate), self._strike, fault)

    def _strike(self, fault: str) -> None:
        if self.quiet:
            return
        self.story.count(f"fault: {fault}")
        self.story.now = self.now
        machines = self.machines
        any_, ready = tuple(NodeCondition), (NodeCondition.READY,)
        if fault == "node reboots" and (node := machines.any_node(*any_)):
            machines.reboot(node)
        elif fault == "node vanishes" and (node := machines.any_node(*any_)):
            machines.vanish(node)
        elif fault == "node breaks" and (node := machines.any_node(*ready)):
            machines.break_(node)
        elif fault == "node is mended" and (node := machines.any_node(NodeCondition.UNUSABLE)):
            machines.reboot(node)
        elif fault in ("engine away", "engine restarts"):
            self._outage(restarts=fault == "engine restarts")
        elif fault == "service killed":
            self.kill("at any time")
        elif fault == "service restarted" and self.life is not None and self.life.started:
            asyncio.get_running_loop().create_task(self._restart(self.life))
        self._schedule(fault)

    def _outage(self, *, restarts: bool) -> None:
        if self.outage.on:
            return
        self._tell("engine away")
        self.outage.on = True
        if restarts:
            self.machines.restart()
        asyncio.get_running_loop().call_later(4 * self.roll.random(), self._engine_back)

    def _engine_back(self) -> None:
        if self.outage.on:
            self._tell("engine is back")
            self.outage.on = False
        if self.life is not None:
            self.life.engine.changed()

    @contextmanager
    def _logs(self) -> Iterator[None]:
        """What the product logs: an error that no fault explains is a violation."""
        before = structlog.get_config()
        structlog.configure(processors=[self._heard])
        try:
            yield
        finally:
            structlog.configure(**before)

    def _heard(self, logger: object, method: str, event: Any) -> Any:
        error = sys.exception()
        if event.get("exc_info") and error is not None and not isinstance(error, StoreUnavailable):
            where = "".join(traceback.format_tb(error.__traceback__)[-2:])
            self.story.violated("no-pass-fails", f"{event.get('event')}: {error!r}\n{where}")
        self.story.count(f"log: {event.get('event')}")
        raise structlog.DropEvent
