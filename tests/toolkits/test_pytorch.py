"""PyTorch jobs: a process per rank, or MPI (behaviour 7 and 8)."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.toolkits.gangs import gang
from trainshed.toolkits import MpiFlavor, PlanError, Process, plan
from trainshed.toolkits.today import rendezvous_port

PYTHON = '"$(command -v python || command -v python3 || echo python)" "train.py"'
PORT = rendezvous_port("attempt-1")


def _job(**settings: Any) -> dict[str, Any]:
    return {"pyTorchSettings": {"pythonScriptFilePath": "train.py", **settings}}


def test_a_process_per_rank_with_its_variables_and_logs() -> None:
    made = plan(
        _job(communicationBackend="gloo", processCount=3, commandLineArgs="--rank $AZ_BATCHAI_TASK_INDEX"), gang()
    )

    def process(rank: int, host: int, local_rank: int, local_size: int) -> Process:
        return Process(
            host=host,
            role="rank",
            index=rank,
            command_line=f"{PYTHON} --rank $AZ_BATCHAI_TASK_INDEX",
            environment={
                "AZ_BATCHAI_TASK_INDEX": str(rank),
                "RANK": str(rank),
                "LOCAL_RANK": str(local_rank),
                "LOCAL_WORLD_SIZE": str(local_size),
                "NODE_RANK": str(host),
            },
            stdout=f"stdout-{rank}.txt",
            stderr=f"stderr-{rank}.txt",
        )

    assert made.processes == (process(0, 0, 0, 2), process(1, 0, 1, 2), process(2, 1, 0, 1))
    assert made.on(1) == (process(2, 1, 0, 1),)
    assert (made.slots, made.mpi_ranks) == ((2, 1), 0)
    assert made.environment == {
        "AZ_BATCHAI_PYTORCH_INIT_METHOD": "file:///jobs/shared/pytorch-attempt-1",
        "AZ_BATCHAI_PYTORCH_BACKEND": "gloo",
        "MASTER_ADDR": "10.0.0.4",
        "MASTER_PORT": str(PORT),
        "WORLD_SIZE": "3",
    }


@pytest.mark.parametrize(
    ("backend", "init_method"),
    [
        ("TCP", f"tcp://10.0.0.4:{PORT}"),
        ("Gloo", "file:///jobs/shared/pytorch-attempt-1"),
        ("NCCL", "file:///jobs/shared/pytorch-attempt-1"),
    ],
)
def test_init_methods(backend: str, init_method: str) -> None:
    environment = plan(_job(communicationBackend=backend), gang()).environment
    assert environment["AZ_BATCHAI_PYTORCH_INIT_METHOD"] == init_method
    assert environment["AZ_BATCHAI_PYTORCH_BACKEND"] == backend


def test_one_process_needs_no_backend() -> None:
    made = plan(_job(), gang(1))
    assert [process.stdout for process in made.processes] == ["stdout-0.txt"]
    assert "AZ_BATCHAI_PYTORCH_BACKEND" not in made.environment
    assert made.environment["WORLD_SIZE"] == "1"


def test_attempts_never_meet() -> None:
    first, second = (plan(_job(), gang(attempt_id=attempt)).environment for attempt in ("a", "b"))
    assert first["AZ_BATCHAI_PYTORCH_INIT_METHOD"] != second["AZ_BATCHAI_PYTORCH_INIT_METHOD"]
    assert first["MASTER_PORT"] != second["MASTER_PORT"]
    assert all(20_000 <= rendezvous_port(str(number)) < 32_000 for number in range(1000))


def test_the_interface_is_named_when_it_must_be() -> None:
    environment = plan(_job(), gang(interface="eth0")).environment
    assert (environment["GLOO_SOCKET_IFNAME"], environment["NCCL_SOCKET_IFNAME"]) == ("eth0", "eth0")


def test_under_mpi_there_is_one_launcher() -> None:
    made = plan(_job(communicationBackend="MPI", processCount=4), gang(mpi=MpiFlavor.MPICH))
    [launcher] = made.processes
    assert (launcher.host, launcher.stdout) == (0, "stdout.txt")
    assert (made.slots, made.mpi_ranks) == ((2, 2), 4)
    forwarded = "AZ_BATCHAI_PYTORCH_BACKEND,AZ_BATCHAI_PYTORCH_INIT_METHOD"
    assert {"MASTER_ADDR", "MASTER_PORT"} < set(made.environment)
    assert f"mpiexec -genvlist {forwarded} -launcher ssh" in launcher.command_line


def test_under_mpi_a_rank_knows_its_index_and_writes_its_own_logs(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text("import os, sys; print('out', os.environ['AZ_BATCHAI_TASK_INDEX'], sys.argv[1]); sys.exit(3)")
    job = _job(communicationBackend="MPI", processCount=1, commandLineArgs="$AZ_BATCHAI_TASK_INDEX")
    job["pyTorchSettings"]["pythonScriptFilePath"] = str(script)
    command_line = plan(job, gang(1, mpi=MpiFlavor.MPICH, rank_wrapper="")).processes[0].command_line
    # The launcher's stand-in runs the rank's words as MPI would, as rank 5.
    (tmp_path / "mpiexec").write_text('#!/bin/bash\nwhile [[ $1 != bash ]]; do shift; done\nPMI_RANK=5 exec "$@"\n')
    (tmp_path / "mpiexec").chmod(0o755)
    logs = tmp_path / "new" / "stdouterr"
    environment = {"PATH": f"{tmp_path}:/usr/local/bin:/usr/bin:/bin", "AZ_BATCHAI_STDOUTERR_DIR": str(logs)}
    done = subprocess.run(["/bin/bash", "-c", command_line], env=environment, capture_output=True, timeout=30)
    assert (done.returncode, done.stdout) == (3, b"")
    assert (logs / "stdout-5.txt").read_text() == "out 5 5\n"
    assert (logs / "stderr-5.txt").read_text() == ""


def test_mpi_that_is_not_there() -> None:
    with pytest.raises(PlanError, match="pyTorchSettings: no MPI was found"):
        plan(_job(communicationBackend="mpi"), gang())


def test_an_unknown_backend() -> None:
    with pytest.raises(PlanError, match="'smoke' is unknown: use TCP, Gloo, MPI or NCCL"):
        plan(_job(communicationBackend="smoke"), gang())
