"""Jobs under MPI on two real nodes, with MPICH, Open MPI 4 and 5, and Intel MPI.

Chainer and Horovod jobs are scripts under MPI to the toolkit; the script here has mpi4py and numpy, not those packages.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.live_service import LiveService
from tests.support.marks import Marks, ProcessWatch, names
from tests.support.mpi import Mpi, mpi
from trainshed.resources.lifecycle import JobState

__all__ = ["mpi"]

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

#: Longest wait for a job, in seconds.
LONG = 60.0
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT")
#: Each rank adds its part up with the others' and tells what it found around it, in one write.
SCRIPT = """
import json, os, sys
import numpy as np
from mpi4py import MPI

comm = MPI.COMM_WORLD
total = np.zeros(1000)
comm.Allreduce(np.full(1000, comm.rank + 1.0), total)
told = {
    "rank": comm.rank,
    "total": total.tolist() == [comm.size * (comm.size + 1) / 2] * 1000,
    "arguments": sys.argv[1:],
    "directory": os.getcwd(),
    "library": MPI.Get_library_version(),
    "environment": {name: value for name, value in os.environ.items() if name != "PATH"},
    "hosts": open(os.environ["AZ_BATCHAI_MPI_HOST_FILE"]).read(),
}
for turn in range(comm.size):
    comm.Barrier()
    if turn == comm.rank:
        with open(os.path.join(os.environ["AZ_BATCHAI_SHARED_JOB_TEMP"], f"told-{turn}"), "w") as file:
            json.dump(told, file)
comm.Barrier()
if comm.rank == 0:
    for turn in range(comm.size):
        print(open(os.path.join(os.environ["AZ_BATCHAI_SHARED_JOB_TEMP"], f"told-{turn}")).read(), flush=True)
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """The script, where every node sees it."""
    file = tmp_path / "reduce.py"
    file.write_text(SCRIPT)
    return file


def ranks_of(service: LiveService, name: str, settings: dict[str, Any], mpi: Mpi, **more: Any) -> list[dict[str, Any]]:
    """Run a job of two nodes that must succeed: what each rank told."""
    client = service.client
    properties = {
        "nodeCount": 2,
        "cluster": {"id": client.clusters.get("c").id},
        "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/logs",
        **settings,
        **more,
        "environmentVariables": [*mpi.variables, *more.get("environmentVariables", [])],
    }
    client.jobs.create(f"{name}-{mpi.name}", properties)
    job = client.jobs.wait(f"{name}-{mpi.name}", interval=0.1, timeout=LONG)
    logs = {
        file: b"".join(client.jobs.stream_log(job.name, file)).decode()
        for file in ("stdout.txt", "stderr.txt", "execution.log")
    }
    assert (job.execution_state, job.exit_code) == (JobState.SUCCEEDED, 0), (job.errors, logs)
    return [json.loads(line) for line in logs["stdout.txt"].splitlines()]


def test_every_rank_has_the_whole_environment_of_its_node(
    shared_service: LiveService, mpi: Mpi, script: Path, tmp_path: Path
) -> None:
    marks = Marks()
    secret = marks.add("a secret for every rank")
    command = f"{mpi.python} {script}"
    with ProcessWatch(marks, shared_service.home) as watch:
        told = ranks_of(
            shared_service,
            "whole",
            {"customMpiSettings": {"commandLine": command, "processCount": 4}},
            mpi,
            environmentVariables=[{"name": "MINE", "value": "of the job $AZ_BATCHAI_NUM_GPUS"}],
            secrets=[{"name": "TOKEN", "value": secret}],
            inputDirectories=[{"id": "DATA", "path": "$AZ_BATCHAI_MOUNT_ROOT"}],
            outputDirectories=[{"id": "MODEL", "pathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/logs"}],
        )
    assert [rank["rank"] for rank in told] == [0, 1, 2, 3]
    assert all(mpi.library in rank["library"] for rank in told)
    assert all(rank["total"] for rank in told)
    environments = [rank["environment"] for rank in told]
    hosts = environments[0]["AZ_BATCH_HOST_LIST"].split(",")
    assert len(set(hosts)) == 2
    assert [[found[name] for name in VARIABLES[:-1]] for found in environments] == [
        ["0", "4", "0", "2", "0", hosts[0]],
        ["1", "4", "1", "2", "0", hosts[0]],
        ["2", "4", "0", "2", "1", hosts[0]],
        ["3", "4", "1", "2", "1", hosts[0]],
    ]
    assert len({found["MASTER_PORT"] for found in environments}) == 1
    expected = {
        "AZ_BATCHAI_MOUNT_ROOT",
        "AZ_BATCHAI_JOB_MOUNT_ROOT",
        "AZ_BATCHAI_JOB_TEMP",
        "AZ_BATCHAI_JOB_TEMP_DIR",
        "AZ_BATCHAI_SHARED_JOB_TEMP",
        "AZ_BATCHAI_STDOUTERR_DIR",
        "AZ_BATCHAI_MPI_HOST_FILE",
        "AZ_BATCHAI_NUM_GPUS",
        "AZ_BATCHAI_INPUT_DATA",
        "AZ_BATCHAI_OUTPUT_MODEL",
        "AZ_BATCHAI_PREV_OUTPUT_MODEL",
    }
    for rank, found in zip(told, environments, strict=True):
        assert {name for name in found if name.startswith("AZ_BATCHAI_")} == expected
        assert (found["MINE"], found["TOKEN"]) == ("of the job 0", secret)
        # What differs from node to node is this node's own.
        assert rank["directory"].startswith(found["AZ_BATCHAI_JOB_TEMP"])
    temps = [found["AZ_BATCHAI_JOB_TEMP"] for found in environments]
    assert temps[0] == temps[1] != temps[2] == temps[3]
    assert [found["HOSTNAME"] for found in environments[1:3]] == sorted({found["HOSTNAME"] for found in environments})
    lines = told[3]["hosts"].splitlines()
    if mpi.is_open_mpi:
        assert [line.rpartition(" ")[0] for line in lines] == [f"{host} slots=2" for host in hosts]
        assert all(int(line.rpartition("max_slots=")[2]) >= 2 for line in lines)
    else:
        assert lines == [f"{host}:2" for host in hosts]
    assert names(watch.users), "the watch never saw the ranks"
    assert watch.commands == set()


@pytest.mark.parametrize("toolkit", ["chainer", "horovod"])
def test_toolkits_that_start_a_script_under_mpi(
    shared_service: LiveService, mpi: Mpi, script: Path, toolkit: str
) -> None:
    settings = {
        "pythonScriptFilePath": str(script),
        "pythonInterpreterPath": mpi.python,
        "commandLineArgs": "--epochs 3 $AZ_BATCHAI_NUM_GPUS",
    }
    told = ranks_of(shared_service, toolkit, {f"{toolkit}Settings": settings}, mpi)
    assert [(rank["rank"], rank["total"], rank["arguments"]) for rank in told] == [
        (0, True, ["--epochs", "3", "0"]),
        (1, True, ["--epochs", "3", "0"]),
    ]
    assert [rank["environment"]["NODE_RANK"] for rank in told] == ["0", "1"]


def test_a_custom_job_finds_the_host_file_of_the_mpi_that_is_there(shared_service: LiveService, mpi: Mpi) -> None:
    client = shared_service.client
    properties = {
        "nodeCount": 2,
        "cluster": {"id": client.clusters.get("c").id},
        "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/logs",
        "customToolkitSettings": {"commandLine": "cat $AZ_BATCHAI_MPI_HOST_FILE"},
        "environmentVariables": mpi.variables,
    }
    client.jobs.create(f"hosts-{mpi.name}", properties)
    client.jobs.wait(f"hosts-{mpi.name}", interval=0.1, timeout=LONG)
    lines = b"".join(client.jobs.stream_log(f"hosts-{mpi.name}", "stdout.txt")).decode().splitlines()
    assert [("slots=1" in line, line.endswith(":1")) for line in lines] == [(mpi.is_open_mpi, not mpi.is_open_mpi)] * 2
