"""What a person is told when something goes wrong: state, exit code, error, and the right log's last lines.

Real processes on two nodes. A parameter-server job is played by shell-like scripts, without TensorFlow.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.live_service import LiveService
from tests.support.mpi import Mpi, mpi
from tests.support.program import Program
from trainshed.client.errors import ServiceError
from trainshed.resources.lifecycle import JobState

__all__ = ["mpi"]

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

#: Longest wait for a job's end, in seconds; what is not stopped sleeps for far longer.
LONG = 60.0
#: Rank or worker 1 fails as its argument says; the others wait for it in vain.
SCRIPT = """
import os, signal, sys, time
index = os.environ.get("AZ_BATCHAI_TASK_INDEX") or os.environ["RANK"]
if index != "1" or "server" in sys.argv:
    time.sleep(600)
print(f"rank {index} sees {sys.argv[1]}", file=sys.stderr, flush=True)
if sys.argv[1] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
sys.exit(int(sys.argv[1]))
"""


@dataclass(frozen=True)
class Ending:
    """How a job must end. ``message`` and ``shown`` are patterns."""

    exit_code: int | None
    code: str
    message: str
    shown: str


def check(service: LiveService, trainshed: Program, name: str, properties: dict[str, Any], expected: Ending) -> None:
    """Run the job and compare its end, and what ``job show`` says about it."""
    client = service.client
    common = {
        "nodeCount": 2,
        "cluster": {"id": client.clusters.get("c").id},
        "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/logs",
    }
    client.jobs.create(name, {**common, **properties})
    job = client.jobs.wait(name, interval=0.1, timeout=LONG)
    shown = trainshed.ok("job", "show", name)
    assert (job.execution_state, job.exit_code) == (JobState.FAILED, expected.exit_code), shown.err
    assert [problem.code for problem in job.errors] == [expected.code], shown.err
    assert re.fullmatch(expected.message, job.errors[0].message), job.errors[0].message
    assert f"{expected.code}: {job.errors[0].message}" in shown.err
    assert re.search(expected.shown, shown.err, re.DOTALL), shown.err


@pytest.fixture
def script(tmp_path: Path) -> str:
    """The script, where every node sees it."""
    file = tmp_path / "fails.py"
    file.write_text(SCRIPT)
    return str(file)


def python(script: str, **more: Any) -> dict[str, Any]:
    return {"pythonScriptFilePath": script, "pythonInterpreterPath": sys.executable, **more}


FAILED = "Job failed with non-zero exit code"
HOW = [("3", 3, "exited with 3"), ("killed", 137, r"was ended by SIGKILL \(137\)")]
each_way = pytest.mark.parametrize(("way", "exit_code", "words"), HOW, ids=["exits", "killed"])


@each_way
def test_a_rank_of_an_mpi_job(
    shared_service: LiveService, trainshed: Program, mpi: Mpi, script: str, way: str, exit_code: int, words: str
) -> None:
    properties = {
        "customMpiSettings": {"commandLine": f"{mpi.python} {script} {way}", "processCount": 4},
        "environmentVariables": mpi.variables,
    }
    expected = Ending(
        exit_code, "JobFailed", rf"{FAILED}: rank 1 on \S+ {words}", rf"--- ranks/stderr-1\.txt\n.*rank 1 sees {way}"
    )
    check(shared_service, trainshed, f"{mpi.name}-{way}", properties, expected)


#: The others wait in a collective operation, which breaks when rank 1 is gone; they are not to blame.
COLLECTIVE = """
import os, signal, sys
from mpi4py import MPI
comm = MPI.COMM_WORLD
comm.Barrier()
if comm.rank == 1:
    print("rank 1 sees", sys.argv[1], file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL) if sys.argv[1] == "killed" else os._exit(int(sys.argv[1]))
comm.Barrier()
"""


@each_way
def test_a_rank_that_the_others_wait_for_in_a_collective_operation(
    shared_service: LiveService, trainshed: Program, mpi: Mpi, tmp_path: Path, way: str, exit_code: int, words: str
) -> None:
    file = tmp_path / "collective.py"
    file.write_text(COLLECTIVE)
    properties = {
        "customMpiSettings": {"commandLine": f"{mpi.python} {file} {way}", "processCount": 4},
        "environmentVariables": mpi.variables,
    }
    expected = Ending(
        exit_code, "JobFailed", rf"{FAILED}: rank 1 on \S+ {words}", rf"--- ranks/stderr-1\.txt\n.*rank 1 sees {way}"
    )
    check(shared_service, trainshed, f"collective-{mpi.name}-{way}", properties, expected)


@each_way
def test_a_process_of_a_pytorch_job(
    shared_service: LiveService, trainshed: Program, script: str, way: str, exit_code: int, words: str
) -> None:
    properties = {"pyTorchSettings": python(script, communicationBackend="gloo", commandLineArgs=way)}
    expected = Ending(
        exit_code, "JobFailed", rf"{FAILED}: rank 1 on \S+ {words}", rf"--- stderr-1\.txt\nrank 1 sees {way}"
    )
    check(shared_service, trainshed, f"pytorch-{way}", properties, expected)


@each_way
def test_a_worker_beside_a_parameter_server(
    shared_service: LiveService, trainshed: Program, script: str, way: str, exit_code: int, words: str
) -> None:
    arguments = {
        "masterCommandLineArgs": way,
        "workerCommandLineArgs": way,
        "parameterServerCommandLineArgs": "server",
        "parameterServerCount": 2,
    }
    expected = Ending(
        exit_code, "JobFailed", rf"{FAILED}: worker 1 on \S+ {words}", rf"--- stderr-wk-1\.txt\nrank 1 sees {way}"
    )
    check(shared_service, trainshed, f"tensorflow-{way}", {"tensorFlowSettings": python(script, **arguments)}, expected)


def test_a_preparation_on_one_node_only(shared_service: LiveService, trainshed: Program) -> None:
    # The second to come fails, whichever node that is.
    prepare = 'mkdir "$AZ_BATCHAI_SHARED_JOB_TEMP/first" 2>/dev/null || { echo "no room on $HOSTNAME" >&2; exit 9; }'
    properties = {
        "customToolkitSettings": {"commandLine": "echo never"},
        "jobPreparation": {"commandLine": prepare},
    }
    expected = Ending(
        9,
        "JobPreparationFailed",
        r"Job preparation task failed with non-zero exit code: preparation on \S+ exited with 9",
        r"--- stderr-job_prep-(\S+)\.txt\nno room on \1\n",
    )
    check(shared_service, trainshed, "preparation", properties, expected)


NO_SCRIPT = r"can't open file '/no/such/script\.py'"
NO_INTERPRETER = r"/no/such/python: No such file or directory"


def test_a_script_that_is_not_there(shared_service: LiveService, trainshed: Program) -> None:
    properties = {"nodeCount": 1, "pyTorchSettings": python("/no/such/script.py")}
    expected = Ending(2, "JobFailed", FAILED, rf"--- stderr-0\.txt\n.*{NO_SCRIPT}")
    check(shared_service, trainshed, "no-script", properties, expected)


def test_a_script_that_is_not_there_under_mpi(shared_service: LiveService, trainshed: Program, mpi: Mpi) -> None:
    properties = {"horovodSettings": python("/no/such/script.py"), "environmentVariables": mpi.variables}
    message = rf"{FAILED}: rank [01] on \S+ exited with 2"
    expected = Ending(2, "JobFailed", message, rf"--- ranks/stderr-[01]\.txt\n.*{NO_SCRIPT}")
    check(shared_service, trainshed, f"no-script-{mpi.name}", properties, expected)


def test_an_interpreter_that_is_not_there(shared_service: LiveService, trainshed: Program, script: str) -> None:
    properties = {"tensorFlowSettings": {**python(script), "pythonInterpreterPath": "/no/such/python"}}
    message = rf"{FAILED}: (master|ps|worker) \d on \S+ exited with 127"
    expected = Ending(127, "JobFailed", message, rf"--- stderr-(wk|ps)-\d\.txt\n.*{NO_INTERPRETER}")
    check(shared_service, trainshed, "no-interpreter", properties, expected)


def test_an_interpreter_that_is_not_there_under_mpi(
    shared_service: LiveService, trainshed: Program, mpi: Mpi, script: str
) -> None:
    settings = {**python(script), "pythonInterpreterPath": "/no/such/python"}
    properties = {"chainerSettings": settings, "environmentVariables": mpi.variables}
    message = rf"{FAILED}: rank [01] on \S+ exited with 127"
    expected = Ending(127, "JobFailed", message, rf"--- ranks/stderr-[01]\.txt\n.*{NO_INTERPRETER}")
    check(shared_service, trainshed, f"no-interpreter-{mpi.name}", properties, expected)


@pytest.mark.parametrize(
    ("settings", "member", "way_out"),
    [
        (
            {"pyTorchSettings": python("t.py", communicationBackend="glue")},
            "pyTorchSettings.communicationBackend",
            "Gloo, MPI",
        ),
        (
            {"tensorFlowSettings": python("t.py", workerCount=3, parameterServerCount=1)},
            "tensorFlowSettings.workerCount",
            "at most nodeCount x GPUs of a node, 2",
        ),
        (
            {"tensorFlowSettings": python("t.py", parameterServerCount=3)},
            "tensorFlowSettings.parameterServerCount",
            "at most one parameter server a node",
        ),
    ],
    ids=["backend", "workers", "parameter-servers"],
)
def test_what_cannot_run_is_refused_when_it_is_submitted(
    shared_service: LiveService, gpu_cluster: str, settings: dict[str, Any], member: str, way_out: str
) -> None:
    properties = {
        "nodeCount": 2,
        "cluster": {"id": gpu_cluster},
        "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/logs",
        **settings,
    }
    with pytest.raises(ServiceError) as refused:
        shared_service.client.jobs.create("refused", properties)
    error = refused.value
    assert (error.status, error.target, way_out in error.message) == (400, f"properties.{member}", True)
    assert "refused" not in {job.name for job in shared_service.client.jobs.list()}


@pytest.fixture(scope="module")
def gpu_cluster(shared_service: LiveService) -> Iterator[str]:
    """A cluster without nodes, whose nodes would have one GPU."""
    client = shared_service.client
    client.clusters.create(
        "gpus",
        {
            "vmSize": "STANDARD_NC6",
            "scaleSettings": {"manual": {"targetNodeCount": 0}},
            "userAccountSettings": {"adminUserName": "tester", "adminUserPassword": "only-for-tests-1"},
        },
    )
    yield str(client.clusters.get("gpus").id)
    client.clusters.delete("gpus")
