"""Nodes that share no file system with the service: its directory is hidden from them, and each has its own disk."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.engines.lab import Lab, mark
from tests.engines.slurm.laboratory import PATIENCE
from tests.engines.slurm.slurm_site import Site
from trainshed.engines.protocol import GangResult
from trainshed.engines.slurm.engine import SlurmEngine
from trainshed.engines.slurm.settings import SlurmSettings
from trainshed.resources.reasons import Reason, ReasonCode

pytestmark = pytest.mark.slow

STOP = Reason(ReasonCode.JOB_TERMINATED, "The test wants it so.")
Afar = Callable[..., None]


@pytest.fixture
def afar(slurm_site: Site) -> Afar:
    """Runs a coroutine with an engine whose nodes reach it over HTTPS alone."""
    if not slurm_site.apart:
        pytest.skip("nodes cannot be given mount namespaces of their own here")

    def run(body: Callable[[Lab], Awaitable[None]], **more: str) -> None:
        home = slurm_site.hidden / uuid.uuid4().hex
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        given = {
            "report_to": f"127.0.0.1:{port}",
            "node_directory": str(slurm_site.own),
            "python": os.path.realpath(sys.executable),
            "lease": "8",
        }
        settings = SlurmSettings.parse({**given, **more})

        def make() -> SlurmEngine:
            return SlurmEngine("hpc", settings, environment=slurm_site.environment, home=str(home))

        async def whole() -> None:
            lab = Lab(make, patience=PATIENCE)
            try:
                await lab.start()
                await body(lab)
            finally:
                await lab.engine.close()

        try:
            asyncio.run(whole())
        finally:
            slurm_site.clear()
        kept = {"setups", "runner"}
        for name in slurm_site.names:
            left = [path for path in slurm_site.own_of(name).glob("*/*") if path.name not in kept]
            assert left == [], f"left on {name}: {left}"

    return run


def mounts(lab: Lab, uid: str) -> Path:
    root = lab.engine.mount_root(uid)
    assert root is not None
    return Path(root)


def test_a_job_gets_its_code_and_secrets_and_its_logs_and_outputs_come_back(afar: Afar, slurm_site: Site) -> None:
    async def body(lab: Lab) -> None:
        cluster = lab.cluster()
        nodes = await lab.add_nodes(1, cluster)
        secret = f"s3cr3t-{mark()}"
        command = (
            "echo ${#KEY}; echo to stderr >&2; mkdir -p $AZ_BATCHAI_MOUNT_ROOT/out/deep; "
            "head -c 9000000 /dev/zero | tr '\\0' x > $AZ_BATCHAI_MOUNT_ROOT/out/deep/big; "
            "echo small > $AZ_BATCHAI_MOUNT_ROOT/out/small; ln -s /etc/passwd $AZ_BATCHAI_MOUNT_ROOT/out/link; "
            f"ls {slurm_site.hidden} | wc -l; env | grep -c TICKET_TOKEN"
        )
        gang = lab.gang(command, nodes, cluster, secrets={"KEY": secret})
        gang.properties["secrets"] = [{"name": "KEY"}]
        await lab.engine.start_gang(gang)
        ended = await lab.end_of(gang.attempt_id)
        folder = mounts(lab, cluster.uid)
        (stdout,) = folder.rglob("stdout.txt")
        assert stdout.read_text().split() == [str(len(secret)), "0", "0"], ended
        assert (stdout.parent / "stderr.txt").read_text() == "to stderr\n"
        assert "ended with exit code 1" in (stdout.parent / "execution.log").read_text()
        assert (ended.result, ended.exit_code) == (GangResult.FAILED, 1)  # grep found nothing
        assert (folder / "out/deep/big").stat().st_size == 9_000_000
        assert (folder / "out/small").read_text() == "small\n"
        assert not (folder / "out/link").exists()

    afar(body)
