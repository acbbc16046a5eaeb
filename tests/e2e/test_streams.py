"""Logs while they are written: fifty at once, each line within a second; long ones without filling memory."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.live_service import LiveService
from tests.support.services import running
from trainshed.client import AsyncClient, Connection, Scope

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

JOBS, LINES = 50, 20
#: Each line is the time at which it was printed. Nothing is started for a line: fifty jobs share two cores here. The
#: first is printed when all are running, so that starting them is over.
PRINTS = f"""exec 9<> <(:)
until [ -e $AZ_BATCHAI_MOUNT_ROOT/go ]; do read -t 0.1 -u 9; done
for i in {{1..{LINES}}}; do echo $EPOCHREALTIME; read -t 0.25 -u 9; done
true"""
LONG = 300 << 20


@pytest.fixture
def crowd(tmp_path: Path) -> Iterator[LiveService]:
    """A service whose cluster ``c`` has a node for each of the jobs."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    cores = os.cpu_count() or 1
    with running(home, more={"TRAINSHED_CPU_OVERSUBSCRIPTION": str(JOBS // cores + 1)}) as live:
        live.make_cluster(JOBS)
        yield live


def test_fifty_jobs_are_followed_at_once(crowd: LiveService) -> None:
    told = crowd.told()
    (mounts,) = crowd.home.glob("clusters/*/mounts")

    async def follow(client: AsyncClient, name: str) -> list[float]:
        """Seconds by which each line came later than it was printed."""
        delays, rest = [], b""
        async for piece in client.jobs.stream_log(name):
            now = time.time()
            *lines, rest = (rest + piece).split(b"\n")
            delays += [now - float(line) for line in lines]
        return delays

    async def job(client: AsyncClient, name: str, cluster: str) -> list[float]:
        properties = {
            "nodeCount": 1,
            "cluster": {"id": cluster},
            "customToolkitSettings": {"commandLine": PRINTS},
            "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/logs",
        }
        await client.jobs.create(name, properties, wait=False)
        return await follow(client, name)

    def all_run() -> bool:
        return crowd.client.clusters.get("c").nodes_in("running") == JOBS

    async def everything() -> list[list[float]]:
        async with AsyncClient(Scope(), connection=Connection(told["url"], told["token"])) as client:
            cluster = str((await client.clusters.get("c")).id)
            followed = [asyncio.create_task(job(client, f"j{number}", cluster)) for number in range(JOBS)]
            await asyncio.to_thread(crowd.wait_for, all_run, "all jobs")
            (mounts / "go").touch()
            return await asyncio.gather(*followed)

    delays = asyncio.run(asyncio.wait_for(everything(), 60))
    assert [len(of_job) for of_job in delays] == [LINES] * JOBS
    assert max(map(max, delays)) < 1.0


def test_a_long_log_does_not_fill_memory(service: LiveService) -> None:
    cluster = service.make_cluster(1)
    client, process = service.client, psutil.Process(service.pid)
    client.jobs.create(
        "long",
        {
            "nodeCount": 1,
            "cluster": {"id": cluster},
            "customToolkitSettings": {"commandLine": f"yes 'a line of a log' | head -c {LONG}"},
            "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/logs",
        },
        wait=False,
    )
    before = most = process.memory_info().rss
    length = 0
    for piece in client.jobs.stream_log("long"):
        length += len(piece)
        most = max(most, process.memory_info().rss)
    assert length == LONG
    assert most - before < 64 << 20
