"""``trainshed job plan``: what is asked, what a person is shown, and that secrets stay here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.conftest import Run
from tests.client.stub_service import EXPERIMENT, StubService, answer
from tests.support.live_service import LiveService
from tests.support.program import Program
from tests.support.services import service

__all__ = ["service"]

PLAN = f"{EXPERIMENT}/planJob"
LOGS = "$AZ_BATCHAI_MOUNT_ROOT/logs"
PLANS = Path(__file__).parent / "plans"
ANSWER = {"toolType": "custom", "nodes": [], "processes": [], "ranks": []}


def write(folder: Path, schema: str = "2018-05-01", **properties: Any) -> str:
    """A job file; its name."""
    path = folder / "job.json"
    body = {
        "$schema": f"https://example.org/{schema}/job.json",
        "properties": {"stdOutErrPathPrefix": LOGS, **properties},
    }
    path.write_text(f"// As the original's files.\n{json.dumps(body)}")
    return str(path)


def test_what_is_asked(trainshed: Run, stub: StubService, tmp_path: Path) -> None:
    stub.on("POST", PLAN, answer(ANSWER))
    share = {"accountName": "<AZURE_BATCHAI_STORAGE_ACCOUNT>", "azureFileUrl": "https://x/y", "relativeMountPath": "y"}
    file = write(
        tmp_path,
        nodeCount=1,
        customToolkitSettings={"commandLine": "true"},
        mountVolumes={"azureFileShares": [share]},
        secrets=[{"name": "KEY", "value": "hunter2"}],
        containerSettings={
            "imageSourceRegistry": {"image": "x", "credentials": {"username": "u", "password": "hunter3"}}
        },
    )
    result = trainshed("job", "plan", "-f", file, "--nodes", "3", "--gpus", "2", "--mpi", "mpich", "-o", "json")
    assert (result.code, json.loads(result.out)) == (0, ANSWER)
    (asked,) = stub.requests("POST", PLAN)
    body = json.loads(asked.body)
    assert body["assume"] == {"gpus": 2, "mpi": "mpich"}
    assert body["apiVersion"] == "2018-05-01"
    assert body["properties"]["nodeCount"] == 3
    assert body["properties"]["secrets"] == [{"name": "KEY", "value": "***"}]
    assert b"hunter" not in asked.body
    assert "mountVolumes" not in body["properties"]


#: What is shown, as checked by hand: the file, and the job and options that lead to it.
SHOWN: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "tensorflow": (
        {
            "nodeCount": 1,
            "tensorFlowSettings": {
                "pythonScriptFilePath": "train.py",
                "masterCommandLineArgs": "--chief",
                "workerCommandLineArgs": "--worker",
                "parameterServerCommandLineArgs": "--ps",
            },
            "environmentVariables": [{"name": "EPOCHS", "value": "10"}],
            "secrets": [{"name": "KEY", "value": "hunter2"}],
            "jobPreparation": {"commandLine": "pip install tensorflow"},
        },
        ("--nodes", "2"),
    ),
    "horovod": (
        {
            "nodeCount": 2,
            "gpusPerProcess": 2,
            "horovodSettings": {
                "pythonScriptFilePath": "$AZ_BATCHAI_INPUT_CODE/train.py",
                "commandLineArgs": "--data '$DATA'",
                "processCount": 4,
            },
        },
        ("--gpus", "4", "--mpi", "mpich"),
    ),
}


@pytest.mark.e2e
@pytest.mark.slow
def test_what_is_shown(service: LiveService, tmp_path: Path) -> None:
    """On a service that has nothing yet: no cluster, no experiment, and none is made."""
    program = Program(service.home, tmp_path)
    for name, (properties, options) in SHOWN.items():
        file = write(tmp_path, schema="2026-11-01" if "gpusPerProcess" in properties else "2018-05-01", **properties)
        shown = program.ok("job", "plan", "-f", file, *options)
        assert shown.out == (PLANS / f"{name}.txt").read_text()
        as_json = program.ok("job", "plan", "-f", file, *options, "-o", "json")
        assert yaml.safe_load(program.ok("job", "plan", "-f", file, *options, "-o", "yaml").out) == as_json.json
        lines = program.ok("job", "plan", "-f", file, *options, "-o", "quiet").out.splitlines()
        assert lines == [process["commandLine"] for process in as_json.json["processes"]]
        assert "hunter" not in as_json.out
    refused = program("job", "plan", "-f", file, "--gpus", "3")
    assert (refused.code, refused.out) == (1, "")
    assert "InvalidPropertyValue" in refused.err
    assert "GpusPerProcess is too large: a node has 3 GPUs, and 2 of the job's processes run on one" in refused.err
    assert program("workspace", "list", "-o", "quiet").out == ""
