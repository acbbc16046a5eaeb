"""One Ray cluster for a whole session, and engines on it, each with a directory of its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.engines.kept import KeptLab
from tests.engines.lab import Lab
from tests.engines.ray.cluster import RayNodes, why_not
from trainshed.engines.protocol import Leader
from trainshed.engines.ray.engine import RayEngine
from trainshed.engines.ray.places import Places
from trainshed.engines.ray.settings import RaySettings

#: Seconds that any single thing may take: Ray starts an interpreter for every node.
_PATIENCE = 60.0
#: Nodes of the cluster: as many as the widest test needs. Those that a test kills join again before the next.
NODES = 4


@pytest.fixture(scope="session")
def ray_nodes() -> Iterator[RayNodes]:
    """A head and four nodes. Skips where Ray is not installed."""
    if why := why_not():
        pytest.skip(why)
    nodes = RayNodes()
    try:
        nodes.start_head()
        for _ in range(NODES):
            nodes.add_node(cpus=2)
        nodes.wait_for(NODES)
        yield nodes
    finally:
        nodes.close()


class RayMeans:
    """What can be killed of a Ray cluster."""

    def __init__(self, nodes: RayNodes, home: Path) -> None:
        self._nodes, self._places = nodes, Places(home / "ray")

    async def kill_node(self, node_id: str, pid: int) -> None:
        """Kill the raylet; what a job has there lives on."""
        record = json.loads((self._places.nodes / f"{node_id}.json").read_text())
        self._nodes.kill_raylet(record["address"])

    async def kill_engine(self) -> None:
        """Kill the head's machine, which forgets everything, and start it and the nodes again."""

        def killed_and_started() -> None:
            self._nodes.kill_head()
            for address in self._nodes.nodes:
                self._nodes.kill_raylet(address)
            self._nodes.start_head()
            self._nodes.wait_for(len(self._nodes.nodes))

        await asyncio.to_thread(killed_and_started)


class SharedLab:
    """A laboratory that many tests use, one after the other, each of which finds it empty."""

    def __init__(self, nodes: RayNodes, home: Path) -> None:
        #: Of the service.
        self.home = home
        self.nodes = nodes
        self._runner = asyncio.Runner()
        self._lab = self._runner.run(self._make())

    async def _make(self) -> KeptLab:
        lab = KeptLab(
            lambda: engine_of(self.nodes, self.home), patience=_PATIENCE, means=RayMeans(self.nodes, self.home)
        )
        await lab.start()
        await lab.until(lambda view: True, "the engine")
        return lab

    def run(self, body: Callable[[Lab], Awaitable[None]], *, keeps: bool = False) -> None:
        """Run a test, and take away what it left; one that ``keeps`` the nodes has those of the test before."""
        self.nodes.wait_for(len(self.nodes.nodes))
        if not keeps and self._lab.keeps:
            self._runner.run(self._lab.tidy(well=False))
        self._lab.keeps = keeps
        well = False
        try:
            self._runner.run(body(self._lab))
            well = True
        finally:
            self.nodes.rejoin()
            self._runner.run(self._lab.tidy(well))

    def close(self) -> None:
        """End it."""
        self._runner.run(self._lab.tidy(well=False))
        self._runner.run(self._lab.engine.close())
        self._runner.close()


@pytest.fixture(scope="session")
def ray_lab(ray_nodes: RayNodes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedLab]:
    """An engine on the session's cluster: starting one for each test takes longer than most tests."""
    lab = SharedLab(ray_nodes, tmp_path_factory.mktemp("ray-lab"))
    try:
        yield lab
    finally:
        lab.close()


@pytest.fixture
def own_nodes() -> Iterator[RayNodes]:
    """A head of this test alone."""
    if why := why_not():
        pytest.skip(why)
    nodes = RayNodes()
    try:
        nodes.start_head()
        yield nodes
    finally:
        nodes.close()


def engine_of(nodes: RayNodes, home: Path, leader: Leader | None = None, **settings: object) -> RayEngine:
    """An engine of a service with this home."""
    values = {
        "address": nodes.address,
        "directory": str(home / "ray"),
        "token_file": str(nodes.token_file),
        "fence_seconds": 20.0,
        **settings,
    }
    return RayEngine("boxes", RaySettings(**values), home, leader)  # type: ignore[arg-type]


def run_on_ray(nodes: RayNodes, home: Path, body: Callable[[Lab], Awaitable[None]], **settings: object) -> None:
    """Run a coroutine with a started engine of this home, and give Ray its nodes back afterwards."""

    async def whole() -> None:
        lab = Lab(lambda: engine_of(nodes, home, **settings), patience=_PATIENCE, means=RayMeans(nodes, home))
        try:
            await lab.start()
            await lab.until(lambda view: True, "the engine")
            await body(lab)
        finally:
            with suppress(Exception):
                await lab.until(lambda view: True, "the engine")
                await lab.engine.shut_down()
            await lab.engine.close()

    nodes.wait_for(len(nodes.nodes))
    try:
        asyncio.run(whole())
    finally:
        nodes.rejoin()
