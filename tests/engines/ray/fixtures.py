"""One Ray cluster for a whole session, and engines on it, each with a directory of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.engines.lab import Lab
from tests.engines.ray.cluster import RayNodes, why_not
from trainshed.engines.protocol import Leader
from trainshed.engines.ray.engine import RayEngine
from trainshed.engines.ray.settings import RaySettings

#: Seconds that any single thing may take: Ray starts an interpreter for every node.
_PATIENCE = 60.0
#: Nodes of the cluster: as many as the widest test needs, and one that a test kills.
NODES = 5


@pytest.fixture(scope="session")
def ray_nodes() -> Iterator[RayNodes]:
    """A head and five nodes. Skips where Ray is not installed."""
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
        lab = Lab(lambda: engine_of(nodes, home, **settings), patience=_PATIENCE)
        try:
            await lab.start()
            await lab.until(lambda view: True, "the engine")
            await body(lab)
        finally:
            with suppress(Exception):
                await lab.until(lambda view: True, "the engine")
                await lab.engine.shut_down()
            await lab.engine.close()

    asyncio.run(whole())
