"""An engine on a site, for one test, after which the site is as it was."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.engines.lab import Lab
from tests.engines.slurm.gate import Gate
from tests.engines.slurm.slurm_site import Site
from trainshed.engines.slurm.engine import SlurmEngine
from trainshed.engines.slurm.settings import SlurmSettings

#: Seconds that any single thing may take: Slurm holds what it requeued until its credential has expired, and sees a
#: dead node after half a minute.
PATIENCE = 75.0


def settings(home: Path, **more: str) -> SlurmSettings:
    """An engine's, with everything below this folder."""
    (home / "nodes").mkdir(parents=True, exist_ok=True)
    given = {"directory": str(home / "shared"), "node_directory": str(home / "nodes"), "python": _python()}
    return SlurmSettings.parse({**given, **more})


def engine(site: Site, home: Path, **more: str) -> SlurmEngine:
    """Not started."""
    return SlurmEngine("hpc", settings(home, **more), environment=site.environment)


class SiteMeans:
    """What can be killed of a site; ``Site.clear`` starts nodes again."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def kill_node(self, node_id: str, pid: int) -> None:
        """Kill the node's slurmd; what a job has there lives on."""
        self._site.kill(node_id.partition("-")[2])

    async def kill_engine(self) -> None:
        """Kill slurmctld, and start it again."""
        self._site.kill("slurmctld")
        self._site.start_controller()


#: Stands in for a network that loses sbatch's answer (a double): it submits the job so many times and says nothing.
_LOSSY_SBATCH = """#!/bin/bash
script=$(cat)
[ -e {lost} ] && exec /usr/bin/sbatch "$@" <<< "$script"
touch {lost}
for _ in $(seq {times}); do /usr/bin/sbatch "$@" <<< "$script" >/dev/null; done
echo "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation" >&2
exit 1
"""


@contextmanager
def losing_an_answer(site: Site, folder: Path, times: int) -> Iterator[Path]:
    """The first answer of sbatch is lost, which has submitted the job so many times; the file shows that it was."""
    tools, lost = folder / "tools", folder / "tools" / "lost"
    tools.mkdir()
    (tools / "sbatch").write_text(_LOSSY_SBATCH.format(lost=lost, times=times))
    (tools / "sbatch").chmod(0o755)
    environment = site.environment
    site.environment = {**environment, "PATH": f"{tools}:{environment['PATH']}"}
    try:
        yield lost
    finally:
        site.environment = environment


def run_on(
    site: Site,
    home: Path,
    body: Callable[[Lab], Awaitable[None]],
    *,
    finally_: Callable[[], None] = lambda: None,
    **more: str,
) -> None:
    """Run a coroutine with a started engine, and leave the site without jobs and without a process of one.

    ``finally_`` undoes what the test did to the site.
    """

    try:
        asyncio.run(_with(Lab(lambda: engine(site, home, **more), patience=PATIENCE, means=SiteMeans(site)), body))
    finally:
        finally_()
        site.clear()
    # What was set up stays set up.
    left = [path for path in (home / "nodes").glob("*/*") if path.name not in ("setups", ".lock")]
    assert left == [], f"left on the nodes: {left}"


def run_afar(site: Site, body: Callable[[Lab], Awaitable[None]], gate: Gate | None = None, *, lease: float = 8) -> None:
    """The same with nodes that share no file system with the engine: its directory is hidden from them, and each has a
    disk of its own. They call it, through the gate where there is one. What test and jobs have in common
    (``Lab.common``) is no place of the engine's.
    """
    if not site.apart:
        pytest.skip("nodes cannot be given mount namespaces of their own here")
    home, common = site.hidden / uuid.uuid4().hex, site.root / f"common-{uuid.uuid4().hex}"
    common.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    given = {
        "report_to": f"127.0.0.1:{port}",
        "node_directory": str(site.own),
        "python": _python(),
        "lease": f"{lease:g}",
    }
    if gate is not None:
        gate.target = port
        given |= {"report_to": f"127.0.0.1:{gate.port}", "listen": f"127.0.0.1:{port}"}
    settings = SlurmSettings.parse(given)

    def make() -> SlurmEngine:
        return SlurmEngine("hpc", settings, environment=site.environment, home=str(home))

    try:
        asyncio.run(_with(Lab(make, patience=PATIENCE, means=SiteMeans(site), common=common), body))
    finally:
        site.clear()
        shutil.rmtree(common)
    for name in site.names:
        left = [path for path in site.own_of(name).glob("*/*") if path.name not in ("setups", "runner", ".lock")]
        assert left == [], f"left on {name}: {left}"


async def _with(lab: Lab, body: Callable[[Lab], Awaitable[None]]) -> None:
    try:
        await lab.start()
        await body(lab)
    finally:
        await lab.engine.close()


def _python() -> str:
    """The interpreter behind any virtual environment: nodes have nothing else."""
    return os.path.realpath(sys.executable)
