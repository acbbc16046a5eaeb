"""BrainScript and ``caffe train`` on real nodes under real MPI, with stand-ins for the two programs.

Neither program can be had any more: a stand-in of that name records arguments, environment and directory, and what it
was given is compared with what behaviour 7 and 8 say. That the real programs make of it what they should is not shown.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.live_service import LiveService
from tests.support.mpi import Mpi, mpich
from trainshed.client.models import Job
from trainshed.resources.lifecycle import JobState

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

#: Longest wait for a job, in seconds.
LONG = 60.0
#: The arguments of the recipe CNTK-GPU-BrainScript-Distributed.
RECIPE = "rootDir=. dataDir=$AZ_BATCHAI_INPUT_DATASET outputDir=$AZ_BATCHAI_OUTPUT_MODEL parallelTrain=true"


@dataclass(frozen=True, slots=True)
class Case:
    """Toolkit settings, and what each rank of them is given; ``{mounts}`` and ``{output}`` are the job's."""

    name: str
    settings: dict[str, Any]
    nodes: int
    #: How many ranks each node has.
    slots: tuple[int, ...]
    arguments: tuple[str, ...]
    program: str = "cntk"
    keras: str | None = "cntk"


def brainscript(**settings: Any) -> dict[str, Any]:
    return {"cntkSettings": settings}


def caffe(**settings: Any) -> dict[str, Any]:
    return {"caffeSettings": {"configFilePath": "$AZ_BATCHAI_INPUT_CONFIG/solver.prototxt", **settings}}


OF_RECIPE = ("rootDir=.", "dataDir={mounts}/external/mnist_database", "outputDir={output}", "parallelTrain=true")
CASES = (
    Case(
        "brainscript-recipe",
        brainscript(configFilePath="$AZ_BATCHAI_INPUT_CONFIG/DistributedConvNet_MNIST.cntk", commandLineArgs=RECIPE),
        2,
        (1, 1),
        ("configFile={mounts}/external/samples/DistributedConvNet_MNIST.cntk", *OF_RECIPE),
    ),
    Case(
        "brainscript-four-ranks",
        brainscript(
            languageType="BrainScript",
            configFilePath="$AZ_BATCHAI_INPUT_CONFIG/my net.cntk",
            commandLineArgs='parallelTrain=true "command=train one:test" Train=[SGD=[maxEpochs=$MY_EPOCHS]]',
            processCount=4,
        ),
        2,
        (2, 2),
        (
            "configFile={mounts}/external/samples/my net.cntk",
            *("parallelTrain=true", "command=train one:test", "Train=[SGD=[maxEpochs=3]]"),
        ),
    ),
    Case(
        "brainscript-alone",
        brainscript(configFilePath="net.cntk"),
        1,
        (1,),
        ("configFile=net.cntk",),
    ),
    Case(
        "caffe-all-gpus",
        caffe(commandLineArgs="-gpu all"),
        1,
        (1,),
        ("train", "--solver", "{mounts}/external/samples/solver.prototxt", "-gpu", "all"),
        "caffe",
        None,
    ),
    Case(
        "caffe-two-nodes",
        caffe(processCount=2, commandLineArgs="--weights $AZ_BATCHAI_INPUT_DATASET/first.caffemodel"),
        2,
        (1, 1),
        (
            *("train", "--solver", "{mounts}/external/samples/solver.prototxt"),
            *("--weights", "{mounts}/external/mnist_database/first.caffemodel"),
        ),
        "caffe",
        None,
    ),
)


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Mpi]:
    """A folder with the stand-ins under the names of the real ones, and the MPI that they join."""
    mpi = mpich()
    folder = tmp_path_factory.mktemp("stand-ins")
    text = (Path(__file__).with_name("stand_in.py")).read_text()
    for name in ("cntk", "caffe"):
        (folder / name).write_text(f"#!{sys.executable}\n{text}")
        (folder / name).chmod(0o755)
    return folder, mpi


def run(live: LiveService, name: str, settings: dict[str, Any], nodes: int, path: str, **variables: str) -> Job:
    """A job with the recipe's directories, run to its end."""
    jobs = live.client.jobs
    given = {"PATH": path, "MY_EPOCHS": "3", **variables}
    properties = {
        "nodeCount": nodes,
        "cluster": {"id": live.client.clusters.get("c").id},
        "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/external",
        "inputDirectories": [
            {"id": "DATASET", "path": "$AZ_BATCHAI_MOUNT_ROOT/external/mnist_database"},
            {"id": "CONFIG", "path": "$AZ_BATCHAI_MOUNT_ROOT/external/samples"},
        ],
        "outputDirectories": [{"id": "MODEL", "pathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/external", "pathSuffix": "Models"}],
        "environmentVariables": [{"name": name, "value": value} for name, value in given.items()],
        **settings,
    }
    jobs.create(name, properties)
    return jobs.wait(name, interval=0.1, timeout=LONG)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_rank_is_given_what_the_settings_say(
    shared_service: LiveService, programs: tuple[Path, Mpi], case: Case
) -> None:
    folder, mpi = programs
    job = run(shared_service, case.name, case.settings, case.nodes, f"{folder}:{mpi.folder}:$PATH")
    read = shared_service.client.jobs.stream_log
    errors = b"".join(read(case.name, "stderr.txt")).decode()
    assert (job.execution_state, job.exit_code) == (JobState.SUCCEEDED, 0), (job.errors, errors)

    size = sum(case.slots)
    told = [json.loads(b"".join(read(case.name, f"ranks/stdout-{rank}.txt"))) for rank in range(size)]
    # One pair of files for all ranks, as the original has it.
    assert sorted(b"".join(read(case.name)).decode().splitlines()) == sorted(json.dumps(rank) for rank in told)
    assert [rank["program"] for rank in told] == [f"stand-in for {case.program}"] * size
    assert [(rank["rank"], rank["ranks"]) for rank in told] == [(rank, list(range(size))) for rank in range(size)]
    hosts = sorted({rank["host"] for rank in told})
    assert [rank["host"] for rank in told] == [
        host for host, count in zip(hosts, case.slots, strict=True) for _ in range(count)
    ]

    segment = job.json["properties"]["jobOutputDirectoryPathSegment"]
    for rank in told:
        environment = rank["environment"]
        mounts = environment["AZ_BATCHAI_MOUNT_ROOT"]
        output = f"{mounts}/external/{segment}/outputs/Models"
        expected = [word.replace("{mounts}", mounts).replace("{output}", output) for word in case.arguments]
        assert rank["arguments"] == expected
        assert Path(rank["directory"]) == Path(environment["AZ_BATCHAI_JOB_TEMP"])
        assert environment.get("KERAS_BACKEND") == case.keras
        assert environment["AZ_BATCHAI_INPUT_DATASET"] == f"{mounts}/external/mnist_database"
        assert environment["AZ_BATCHAI_INPUT_CONFIG"] == f"{mounts}/external/samples"
        assert environment["AZ_BATCHAI_OUTPUT_MODEL"] == output
        assert environment["AZ_BATCHAI_PREV_OUTPUT_MODEL"] == ""
        assert environment["AZ_BATCHAI_STDOUTERR_DIR"] == f"{mounts}/external/{segment}/stdouterr"
        assert environment["AZ_BATCHAI_NUM_GPUS"] == "0"
        assert len(environment["AZ_BATCH_HOST_LIST"].split(",")) == case.nodes
        assert environment["MY_EPOCHS"] == "3"
        # Only TensorFlow, Caffe2 and PyTorch have it.
        assert "AZ_BATCHAI_TASK_INDEX" not in environment
    # Nodes share the mounts and the job's common directory, and have their own temp directory.
    shared = {rank["environment"]["AZ_BATCHAI_SHARED_JOB_TEMP"] for rank in told}
    own = {rank["environment"]["AZ_BATCHAI_JOB_TEMP"] for rank in told}
    assert (len(shared), len(own)) == (1, case.nodes)


def test_the_exit_code_of_any_rank_fails_the_job(shared_service: LiveService, programs: tuple[Path, Mpi]) -> None:
    folder, mpi = programs
    settings = brainscript(configFilePath="net.cntk", commandLineArgs="parallelTrain=true")
    path = f"{folder}:{mpi.folder}:$PATH"
    job = run(shared_service, "brainscript-fails", settings, 2, path, MY_EXIT_CODE="9")
    assert (job.execution_state, job.exit_code) == (JobState.FAILED, 9)


@pytest.mark.parametrize(
    ("program", "settings"), [("cntk", brainscript(configFilePath="net.cntk")), ("caffe", caffe())]
)
def test_without_the_program_the_log_says_so(
    shared_service: LiveService, programs: tuple[Path, Mpi], program: str, settings: dict[str, Any]
) -> None:
    _, mpi = programs
    name = f"no-{program}"
    job = run(shared_service, name, settings, 1, f"{mpi.folder}:$PATH")
    assert (job.execution_state, job.exit_code) == (JobState.FAILED, 127)
    errors = b"".join(shared_service.client.jobs.stream_log(name, "stderr.txt")).decode()
    assert f"{program}: command not found" in errors
