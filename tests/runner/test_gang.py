"""Gangs of two runners on two loopback addresses."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.runner.harness import Runner, custom, make_spec, stdouterr, wait_for, wait_gone
from trainshed.runner.spec import HostSpec, Outcome

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("isolation_kind")]


def gang(stack: ExitStack, root: Path, properties: dict[str, Any], port: int, **changes: Any) -> list[Runner]:
    """Start both runners."""
    specs = [make_spec(root, properties, nodes=2, index=i, port=port, **changes) for i in range(2)]
    return [stack.enter_context(Runner(spec)) for spec in specs]


def outcomes(root: Path, properties: dict[str, Any], port: int, **changes: Any) -> list[Outcome]:
    """Run to the end."""
    with ExitStack() as stack:
        return [runner.outcome() for runner in gang(stack, root, properties, port, **changes)]


def pytorch(root: Path, body: str) -> dict[str, Any]:
    """A job with one process on each node; ``body`` is Python with ``rank`` defined."""
    script = root / "script.py"
    script.write_text(f"import os, sys, time\nrank = int(os.environ['AZ_BATCHAI_TASK_INDEX'])\n{body}\n")
    settings = {
        "pythonScriptFilePath": str(script),
        "communicationBackend": "gloo",
        "pythonInterpreterPath": sys.executable,
    }
    return {"pyTorchSettings": {**settings, "processCount": 2}}


def mpi(command: str) -> dict[str, Any]:
    """A custom MPI job with one rank on each node."""
    return {"customMpiSettings": {"commandLine": command, "processCount": 2}}


@pytest.fixture
def mpich(monkeypatch: pytest.MonkeyPatch) -> None:
    """MPICH on the PATH."""
    folder = Path(sys.executable).parent
    if not (folder / "mpiexec.hydra").exists():
        pytest.skip("no MPICH beside the interpreter: pip install mpich")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_custom_runs_on_the_first_node_only(tmp_path: Path, port: int) -> None:
    both = outcomes(tmp_path, custom("echo $AZ_BATCH_HOST_LIST; cat $AZ_BATCHAI_MPI_HOST_FILE"), port)
    assert [o.result for o in both] == ["succeeded", "succeeded"]
    text = (stdouterr(tmp_path) / "stdout.txt").read_text()
    # In the form that the node's mpirun reads: Open MPI's or MPICH's.
    assert text.startswith(("127.0.77.4,127.0.77.5\n127.0.77.4 slots=1", "127.0.77.4,127.0.77.5\n127.0.77.4:1\n"))


def test_processes_on_each_node_with_files_by_rank(tmp_path: Path, port: int) -> None:
    both = outcomes(tmp_path, pytorch(tmp_path, "print(rank, os.environ['AZ_BATCHAI_JOB_TEMP'])"), port)
    assert [o.result for o in both] == ["succeeded", "succeeded"]
    for rank in range(2):
        text = (stdouterr(tmp_path) / f"stdout-{rank}.txt").read_text()
        assert text == f"{rank} {tmp_path}/n{rank}/jobs/ws/exp/job\n"
    assert (stdouterr(tmp_path) / "execution-node-1.log").exists()


def test_first_failure_ends_the_gang(tmp_path: Path, port: int) -> None:
    both = outcomes(tmp_path, pytorch(tmp_path, "sys.exit(5) if rank == 1 else time.sleep(600)"), port)
    for result in both:
        assert (result.result, result.exit_code) == ("failed", 5)
        assert result.reason is not None
        assert result.reason["code"] == "JobFailed"
        assert result.reason["details"]["node"] == "node-1"


def test_preparation_that_fails_on_one_node_starts_nothing(tmp_path: Path, port: int) -> None:
    job = custom("echo never", jobPreparation={"commandLine": "[ $HOSTNAME = node-0 ] || exit 9"})
    for result in outcomes(tmp_path, job, port):
        assert (result.result, result.exit_code) == ("failed", 9)
        assert result.reason is not None
        assert (result.reason["code"], result.reason["details"]["node"]) == ("JobPreparationFailed", "node-1")
    assert not (stdouterr(tmp_path) / "stdout.txt").exists()
    assert (stdouterr(tmp_path) / "stdout-job_prep-node-1.txt").exists()


def test_processes_start_when_all_are_prepared(tmp_path: Path, port: int) -> None:
    prepare = f"[ $HOSTNAME = node-0 ] || {{ sleep 0.3; touch {tmp_path}/late; }}"
    both = outcomes(tmp_path, custom(f"test -e {tmp_path}/late", jobPreparation={"commandLine": prepare}), port)
    assert [o.result for o in both] == ["succeeded", "succeeded"]


def test_a_stop_said_to_one_runner_stops_both(tmp_path: Path, port: int) -> None:
    job = pytorch(tmp_path, f"open('{tmp_path}/up' + str(rank), 'w').write('y'); time.sleep(600)")
    with ExitStack() as stack:
        runners = gang(stack, tmp_path, job, port)
        for rank in range(2):
            wait_for(tmp_path / f"up{rank}")
        runners[1].stop()
        for runner in runners:
            result = runner.outcome(15.0)
            assert (result.result, result.reason and result.reason["code"]) == ("stopped", "JobTerminated")


@pytest.mark.parametrize("dies", [0, 1])
def test_a_lost_runner_loses_the_gang(tmp_path: Path, port: int, dies: int) -> None:
    job = pytorch(tmp_path, f"open('{tmp_path}/up' + str(rank), 'w').write('y'); time.sleep(600)")
    attempt = f"lost-{tmp_path.name}-{os.getpid()}"
    with ExitStack() as stack:
        runners = gang(stack, tmp_path, job, port, attempt_id=attempt)
        for rank in range(2):
            wait_for(tmp_path / f"up{rank}")
        os.kill(runners[dies].pid, signal.SIGKILL)
        runners[dies].wait_exit()
        result = runners[1 - dies].outcome(15.0)
    assert result.result == "lost"
    assert result.reason is not None
    assert (result.reason["code"], result.reason["details"]["node"]) == ("NodeLost", f"node-{dies}")
    wait_gone(f"TRAINSHED_ATTEMPT_ID={attempt}", 10.0)


def test_a_stranger_is_hung_up_on(tmp_path: Path, port: int) -> None:
    job = custom(f"touch {tmp_path}/up; echo y > {tmp_path}/up; while [ ! -e {tmp_path}/go ]; do sleep 0.02; done")
    with ExitStack() as stack:
        runners = gang(stack, tmp_path, job, port)
        wait_for(tmp_path / "up")
        with socket.create_connection(("127.0.77.4", port), timeout=5) as stranger:
            stranger.sendall(b'{"launch":"6964","call":"x","token":"guess"}\n')
            assert stranger.recv(100) == b""
        (tmp_path / "go").touch()
        assert [runner.outcome().result for runner in runners] == ["succeeded", "succeeded"]


@pytest.mark.slow
def test_mpi_hello_over_two_nodes(tmp_path: Path, port: int, mpich: None) -> None:
    # One write for each line: unbuffered lines of several ranks would mix otherwise.
    line = "f'rank {c.rank} sum {c.allreduce(c.rank + 1)}{chr(10)}'"
    program = f"import sys; from mpi4py import MPI as M; c = M.COMM_WORLD; sys.stdout.write({line})"
    job = mpi(f'{sys.executable} -c "{program}"; echo "$AZ_BATCHAI_JOB_TEMP"')
    pytest.importorskip("mpi4py")
    both = outcomes(tmp_path, job, port)
    stderr = (stdouterr(tmp_path) / "stderr.txt").read_text()
    assert [o.result for o in both] == ["succeeded", "succeeded"], stderr
    text = (stdouterr(tmp_path) / "stdout.txt").read_text()
    for expected in ("rank 0 sum 3", "rank 1 sum 3", f"{tmp_path}/n0/jobs", f"{tmp_path}/n1/jobs"):
        assert expected in text


@pytest.mark.slow
def test_rank_that_fails_while_mpich_hangs(tmp_path: Path, port: int, mpich: None) -> None:
    for result in outcomes(tmp_path, mpi("[ $PMI_RANK = 1 ] && exit 7; sleep 600"), port):
        assert (result.result, result.exit_code) == ("failed", 7)
        assert result.reason is not None
        assert (result.reason["details"]["rank"], result.reason["details"]["node"]) == ("1", "node-1")


@pytest.mark.slow
def test_what_is_heard_while_an_attempt_is_ended_changes_nothing(tmp_path: Path, port: int, mpich: None) -> None:
    # Two ranks fail one after the other, and what they left in the background makes the end last.
    job = mpi("[ $PMI_RANK = 1 ] && exit 7; setsid sh -c 'trap \"\" TERM; exec sleep 4' & sleep 1; exit 8")
    for result in outcomes(tmp_path, job, port, grace_seconds=8.0):
        assert (result.result, result.exit_code) == ("failed", 7)
        assert result.reason is not None
        assert result.reason["code"] == "JobFailed"


@pytest.mark.slow
def test_mpis_daemon_that_is_killed_ends_the_job(tmp_path: Path, port: int, mpich: None) -> None:
    # Of the second node's rank: bash, whose parent is the wrapper, whose parent is the daemon. Both ranks live on.
    kill = "[ $PMI_RANK = 1 ] && kill -9 $(ps -o ppid= -p $PPID); exec sleep 600"
    for result in outcomes(tmp_path, mpi(kill), port):
        assert result.result == "failed"
        assert result.reason is not None
        assert result.reason["code"] == "JobRankFailed"
        assert "MPI's daemon on node-1 was ended by SIGKILL (137)" in result.reason["text"]


def test_mpi_without_an_mpi_says_what_to_install(tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = tmp_path / "bin"
    empty.mkdir()
    for tool in ("bash", "sh"):
        (empty / tool).symlink_to(shutil.which(tool) or "/bin/sh")
    monkeypatch.setenv("PATH", str(empty))
    for result in outcomes(tmp_path, mpi("true"), port):
        assert result.reason is not None
        assert result.reason["code"] == "JobLaunchFailed"
        assert "mpich" in result.reason["text"]


#: Nodes of 2 GPUs and of 1: pretended, by what an engine hands out.
GPUS: dict[str, Any] = {
    "hosts": (
        HostSpec("tvm-0", "node-0", "127.0.77.4", cpus=2, gpus=2),
        HostSpec("tvm-1", "node-1", "127.0.77.5", cpus=2, gpus=1),
    ),
    "gpu_devices": ("GPU-a,GPU-b", "GPU-c"),
}
TELL = "echo $AZ_BATCHAI_NUM_GPUS $CUDA_VISIBLE_DEVICES $HIP_VISIBLE_DEVICES"


def test_each_process_sees_its_gpus_and_the_count_of_its_node(tmp_path: Path, port: int) -> None:
    body = "told = [os.environ[n] for n in ('AZ_BATCHAI_NUM_GPUS', 'CUDA_VISIBLE_DEVICES')]; print(*told)"
    job = pytorch(tmp_path, body)
    job["pyTorchSettings"]["processCount"] = 3
    first, second = outcomes(tmp_path, {**job, "gpusPerProcess": 1}, port, **GPUS)
    assert (first.result, second.result) == ("succeeded", "succeeded")
    told = [(stdouterr(tmp_path) / f"stdout-{rank}.txt").read_text() for rank in range(3)]
    assert told == ["2 GPU-a\n", "2 GPU-b\n", "1 GPU-c\n"]


def test_each_mpi_rank_sees_its_gpus(tmp_path: Path, port: int, mpich: None) -> None:
    job = mpi(TELL)
    job["customMpiSettings"]["processCount"] = 3
    first, second = outcomes(tmp_path, {**job, "gpusPerProcess": 1}, port, **GPUS)
    assert (first.result, second.result) == ("succeeded", "succeeded")
    told = sorted((stdouterr(tmp_path) / "stdout.txt").read_text().splitlines())
    assert told == ["1 GPU-c GPU-c", "2 GPU-a GPU-a", "2 GPU-b GPU-b"]


def test_more_gpus_than_a_node_has(tmp_path: Path, port: int) -> None:
    first, _ = outcomes(tmp_path, {**pytorch(tmp_path, ""), "gpusPerProcess": 2}, port, **GPUS)
    assert first.reason is not None
    assert first.reason["code"] == "JobLaunchFailed"
    assert "it has 1. Use fewer processes" in first.reason["text"]
