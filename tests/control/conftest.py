"""A controller on a real database, with a simulated engine and a clock that the test moves."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import Connection

from tests.control.queueing import Scenario, Site
from tests.support.factories import make_parents
from tests.support.simulated_engine import SimulatedEngine
from trainshed.control.controller import Controller
from trainshed.control.settings import ControlSettings
from trainshed.engines.protocol import EngineTraits
from trainshed.engines.several import SeveralEngines
from trainshed.resources.quotas import Quotas, family_cores
from trainshed.store.database import Database

T = TypeVar("T")
D_CORES = family_cores("D", "dedicated")


@dataclass
class Clock:
    """Unix ms that only the test moves."""

    now: int = 1_000_000

    def __call__(self) -> int:
        return self.now


class World:
    """What a test of the control loops works with."""

    def __init__(self, db: Database, home: Path) -> None:
        self.db = db
        self.home = home
        self.engine = SimulatedEngine()
        self.clock = Clock()
        self.controller = self.make_controller()

    def make_controller(self) -> Controller:
        self.settings = ControlSettings(
            clock=self.clock,
            slow_clock_seconds=0.05,
            lost_attempts_limit=3,
            home=self.home,
        )
        return Controller(self.db, self.engine, lambda sealed, owner: sealed.decode(), self.settings)

    def limit_cores(self, cores: int) -> None:
        """The quota of dedicated cores of family D, of which the factories' nodes have one each."""
        object.__setattr__(self.settings, "quotas", Quotas(everyone={D_CORES: cores}))

    async def write(self, fn: Callable[[Connection], T]) -> T:
        """Change something as the API would, and wake the controller."""
        result = await self.db.write(fn)
        self.controller.wake()
        return result

    async def until(self, check: Callable[[Connection], T], *, seconds: float = 10) -> T:
        """The first true answer of ``check``; fails after the bound."""
        async with asyncio.timeout(seconds):
            while True:
                answer = await self.db.read(check)
                if answer:
                    return answer
                await asyncio.sleep(0.005)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the newest schema: copied for each test, which is quicker than migrating it."""
    path = tmp_path_factory.mktemp("schema") / "trainshed.db"
    Database.open(f"sqlite:///{path}").close_sync()
    return path


@pytest.fixture
def run(tmp_path: Path, empty_database: Path) -> Iterator[Callable[[Callable[[World], Awaitable[None]]], None]]:
    """Runs an async scenario against a fresh world."""

    def runner(scenario: Callable[[World], Awaitable[None]]) -> None:
        async def main() -> None:
            shutil.copy(empty_database, tmp_path / "trainshed.db")
            db = await asyncio.to_thread(Database.open, f"sqlite:///{tmp_path / 'trainshed.db'}")
            home = tmp_path / "home"
            home.mkdir()
            world = World(db, home)
            try:
                await db.write(make_parents)
                await world.controller.start()
                await scenario(world)
            finally:
                await world.controller.stop()
                await db.close()

        asyncio.run(main())

    yield runner


@pytest.fixture
def on_site(
    run: Callable[[Callable[[World], Awaitable[None]]], None], monkeypatch: pytest.MonkeyPatch
) -> Callable[[Scenario], None]:
    """Runs a scenario with such a service."""
    hpc, made = SimulatedEngine("hpc", queues=True), World.make_controller

    def make_controller(world: World) -> Controller:
        made(world)
        object.__setattr__(world.settings, "engines", {"local": EngineTraits(), "hpc": EngineTraits(queues=True)})
        world.engine.name = "local"
        several = SeveralEngines([world.engine, hpc])
        return Controller(world.db, several, lambda sealed, owner: sealed.decode(), world.settings)

    monkeypatch.setattr(World, "make_controller", make_controller)

    def runner(scenario: Scenario) -> None:
        run(lambda world: scenario(Site(world, hpc)))

    return runner
