"""Logs by rank of real MPI jobs over two nodes with two ranks each, live, and over a restart of the service."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.live_service import LiveService
from tests.support.machine import needs_namespaces
from tests.support.mpi import Mpi, mpi
from tests.support.program import PATIENCE, Program

__all__ = ["mpi"]

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
]
needs_mpich = pytest.mark.skipif(
    not (Path(sys.executable).parent / "mpiexec.hydra").exists(),
    reason="no MPICH beside the interpreter: pip install mpich",
)

#: Says a line every 20 ms until the file is there. PMI_RANK is MPICH's own name for the rank.
UNTIL = 'n=0; while [ ! -e "{go}" ]; do n=$((n+1)); echo "r$PMI_RANK $n"; sleep 0.02; done; echo "r$PMI_RANK end"'


def four_ranks(live: LiveService, command: str) -> dict[str, Any]:
    """Properties of a job on both nodes of the cluster ``c``."""
    return {
        "nodeCount": 2,
        "cluster": {"id": str(live.client.clusters.get("c").id)},
        "customMpiSettings": {"commandLine": command, "processCount": 4},
        "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/logs",
    }


@needs_namespaces
def test_ranks_of_two_nodes(trainshed: Program, shared_service: LiveService, mpi: Mpi) -> None:
    command, job = 'echo "loss $RANK"; echo "host $(hostname)"; echo "warn $RANK" >&2', f"by-rank-{mpi.name}"
    properties = {**four_ranks(shared_service, command), "environmentVariables": mpi.variables}
    shared_service.client.jobs.create(job, properties)
    # Followed from before it starts to its end.
    everything = trainshed.ok("job", "logs", job, "-f", "--all").out.splitlines()
    assert Counter(line.partition("]")[0] for line in everything) == {f"[rank {rank}": 2 for rank in range(4)}
    assert {line for line in everything if "loss" in line} == {f"[rank {rank}] loss {rank}" for rank in range(4)}
    hosts = {line.partition("] host ")[2] for line in everything if "host" in line}
    assert len(hosts) == 2
    assert trainshed.ok("job", "logs", job, "--rank", "3", "--grep", "loss").out == "loss 3\n"
    assert trainshed.ok("job", "logs", job, "--rank", "2", "--stderr").out == "warn 2\n"
    of_node = trainshed.ok("job", "logs", job, "--node", max(hosts), "--grep", "loss").out
    assert sorted(of_node.splitlines()) == ["[rank 2] loss 2", "[rank 3] loss 3"]
    # The contract's file is as it was.
    merged = trainshed.ok("job", "logs", job).out.splitlines()
    assert sorted(merged) == sorted(line.partition("] ")[2] for line in everything)


@needs_mpich
def test_interrupted_the_job_goes_on(trainshed: Program, shared_service: LiveService) -> None:
    go = "$AZ_BATCHAI_MOUNT_ROOT/go-on"
    shared_service.client.jobs.create("watched", four_ranks(shared_service, UNTIL.format(go=go)))
    with trainshed.start("job", "logs", "-f", "watched", "--all") as follower:
        try:
            assert follower.stdout is not None
            assert follower.stdout.readline().startswith("[rank ")
            os.kill(follower.pid, signal.SIGINT)
            follower.communicate(timeout=PATIENCE)
            assert follower.returncode == 130
        finally:
            follower.kill()
    assert shared_service.client.jobs.get("watched").execution_state.value == "running"
    trainshed.ok("job", "terminate", "watched", "-y")


@needs_mpich
def test_nothing_is_lost_or_doubled_when_the_service_restarts(service: LiveService, tmp_path: Path) -> None:
    service.make_cluster(2)
    go = "$AZ_BATCHAI_MOUNT_ROOT/go"
    service.client.jobs.create("j", four_ranks(service, UNTIL.format(go=go)))
    folder = tmp_path / "folder"
    folder.mkdir()
    program = Program(service.home, folder)
    with program.start("job", "logs", "-f", "j", "--all") as follower:
        try:
            assert follower.stdout is not None
            seen = [follower.stdout.readline()]
            service.kill()
            service.start()
            job = service.client.jobs.get("j")
            uid = str(job.properties["jobOutputDirectoryPathSegment"]).rpartition("/")[2]
            (mounts,) = (path for path in (service.home / "clusters").glob("*/mounts") if list(path.rglob(uid)))
            (mounts / "go").touch()
            seen += follower.stdout.readlines()
            assert follower.wait(PATIENCE) == 0
        finally:
            follower.kill()
    for rank in range(4):
        lines = [line.partition("] ")[2] for line in seen if line.startswith(f"[rank {rank}] ")]
        written = next(mounts.rglob(f"ranks/stdout-{rank}.txt")).read_text()
        assert "".join(lines) == written
        assert written.endswith(f"r{rank} end\n")
