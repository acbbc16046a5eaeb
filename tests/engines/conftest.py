"""A local engine in a temporary home, whose daemon is ended after each test whatever became of it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from tests.engines.lab import Lab, eventually
from tests.engines.processes import ancestor_below, daemon_pid
from tests.engines.ray.fixtures import own_nodes as own_nodes
from tests.engines.ray.fixtures import ray_lab as ray_lab
from tests.engines.ray.fixtures import ray_nodes as ray_nodes
from tests.engines.slurm.slurm_site import Site, why_not
from trainshed.engines.local.engine import LocalEngine
from trainshed.engines.local.layout import Layout
from trainshed.engines.local.leftovers import marked
from trainshed.resources.users import JobUser

#: Runs a test's coroutine in a lab of its own.
InLab = Callable[[Callable[[Lab], Awaitable[None]]], None]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The home of the engine under test."""
    return tmp_path / "home"


@pytest.fixture
def in_lab(home: Path) -> InLab:
    """Runs a coroutine with a started engine of the test's home."""
    return partial(run_in_lab, home)


class LocalMeans:
    """What can be killed of a local engine."""

    def __init__(self, home: Path) -> None:
        self._home = home

    async def kill_node(self, node_id: str, pid: int) -> None:
        """Kill the node's process."""
        os.kill(ancestor_below(pid, daemon_pid(self._home))[0], signal.SIGKILL)

    async def kill_engine(self) -> None:
        """Kill the daemon, which the service starts again."""
        os.kill(daemon_pid(self._home), signal.SIGKILL)


def run_in_lab(home: Path, body: Callable[[Lab], Awaitable[None]], user: JobUser | None = None) -> None:
    """Run a coroutine with a started engine of this home, and end daemon and nodes afterwards."""

    async def whole() -> None:
        lab = Lab(lambda: LocalEngine(home), user, means=LocalMeans(home))
        try:
            await lab.start()
            await body(lab)
        finally:
            with suppress(Exception):
                await lab.engine.shut_down()
            await lab.engine.close()
            await _end_leftovers(home)

    asyncio.run(whole())


async def _end_leftovers(home: Path) -> None:
    """Only for tests that failed half-way: processes of this home by their mark, and nothing else."""
    mark = Layout(home).mark
    for pid in marked(mark):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    await eventually(lambda: not marked(mark), "an end of the test's processes")


@pytest.fixture(scope="session")
def slurm_site() -> Iterator[Site]:
    """A Slurm with four nodes."""
    if why := why_not():
        pytest.skip(why)
    site = Site()
    try:
        site.start()
        yield site
    finally:
        site.close()
