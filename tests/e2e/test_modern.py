"""Today's toolkits and TensorFlow on two real nodes: who ends a job, and what is left of it then."""

from __future__ import annotations

import importlib.util
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.support.live_service import LiveService
from tests.support.program import Done, Program

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

#: Seconds in which the servers of a TensorFlow job must be gone after its workers.
GONE = 5.0
#: torchrun imports PyTorch, which takes its time on a busy machine; its agents alone would wait 300 s for each other.
PATIENCE = 90.0

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")


def _submit(trainshed: Program, job: str, script: str, member: str, **settings: Any) -> None:
    """A job of two nodes whose code is one script."""
    code = trainshed.folder / "code"
    code.mkdir()
    (code / "train.py").write_text(script)
    file = trainshed.folder / "job.json"
    properties = {
        "nodeCount": 2,
        "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/logs",
        member: {"pythonScriptFilePath": "train.py", **settings},
    }
    schema = "https://example.com/2026-11-01/job.json"
    file.write_text(json.dumps({"$schema": schema, "properties": properties}))
    trainshed.ok("job", "create", job, "-c", "c", "-f", str(file), "--code", str(code))


def _wait(trainshed: Program, job: str) -> Done:
    return trainshed("job", "wait", job, "--interval", "0.05", seconds=PATIENCE)


def _running(token: str) -> set[str]:
    """The words after the token on the command lines of all living processes that have it."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            if token in words[:-1]:
                found.add(words[words.index(token) + 1])
    return found


#: Workers end when they are told to; whoever serves does so for ever, and so does a child that left its session.
_ROLES = """
import json, os, subprocess, sys, time
task = json.loads(os.environ["TF_CONFIG"])["task"]
print(task["type"], task["index"], flush=True)
if len(sys.argv) > 3 and sys.argv[3] == "serves":
    sleeper = [sys.executable, "-c", "import time; time.sleep(600)", sys.argv[1], "child"]
    subprocess.Popen(sleeper, start_new_session=True)
    time.sleep(600)
go = os.path.join(os.environ["AZ_BATCHAI_SHARED_JOB_TEMP"], "go")
while not os.path.exists(go):
    time.sleep(0.02)
"""


@pytest.mark.parametrize(
    ("case", "settings", "expected"),
    [
        (
            "workers",
            {
                "workerCount": 2,
                "parameterServerCount": 2,
                "masterCommandLineArgs": "{token} worker ends",
                "workerCommandLineArgs": "{token} worker ends",
                "parameterServerCommandLineArgs": "{token} ps serves",
            },
            {"worker", "ps", "child"},
        ),
        (
            "chief",
            {
                "workerCount": 3,
                "parameterServerCount": 1,
                "masterRole": "Chief",
                "masterCommandLineArgs": "{token} chief ends",
                "workerCommandLineArgs": "{token} worker serves",
                "parameterServerCommandLineArgs": "{token} ps serves",
            },
            {"chief", "worker", "ps", "child"},
        ),
    ],
)
def test_a_tensorflow_job_ends_with_its_workers_and_its_servers_with_it(
    shared_service: LiveService, trainshed: Program, case: str, settings: dict[str, Any], expected: set[str]
) -> None:
    token, job = uuid4().hex, f"tensorflow-{case}"
    filled = {name: value.format(token=token) if isinstance(value, str) else value for name, value in settings.items()}
    _submit(trainshed, job, _ROLES, "tensorFlowSettings", **filled)
    shared_service.wait_for(lambda: _running(token) >= expected, "all processes")
    (Path(_variable(token, "AZ_BATCHAI_SHARED_JOB_TEMP")) / "go").touch()
    _until(lambda: not _running(token), GONE, lambda: f"{_running(token)} still runs")
    assert _wait(trainshed, job).code == 0
    role = "chief" if case == "chief" else "worker"
    assert trainshed.ok("job", "logs", job).out == f"{role} 0\n"


def _variable(token: str, name: str) -> str:
    """A variable of a process that has the token."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if token.encode() not in (entry / "cmdline").read_bytes().split(b"\0"):
                    continue
                for pair in (entry / "environ").read_bytes().split(b"\0"):
                    if pair.startswith(f"{name}=".encode()):
                        return pair.decode().partition("=")[2]
            except OSError:
                continue
    raise AssertionError(f"no process has {name}")


def _until(check: Callable[[], bool], seconds: float, what: Callable[[], str]) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, what()
        time.sleep(0.02)


@needs_torch
@pytest.mark.parametrize("backend", ["c10d", "static"])
def test_a_rank_that_fails_ends_the_ranks_of_all_nodes_at_once(trainshed: Program, backend: str) -> None:
    token = uuid4().hex
    script = (
        "import os, sys, time\n"
        "if os.environ['RANK'] == '1': print('I am rank 1', file=sys.stderr); sys.exit(3)\n"
        "time.sleep(600)\n"
    )
    _submit(
        trainshed, f"torchrun-fails-{backend}", script, "torchrunSettings",
        commandLineArgs=f"{token} rank", rendezvousBackend=backend,
    )  # fmt: skip
    waited = _wait(trainshed, f"torchrun-fails-{backend}")
    assert waited.code == 3
    assert re.search(r"JobFailed: .*: rank 1 on \S+ exited with 3", waited.err), waited.err
    assert _running(token) == set()
    # The script's own words, and torchrun's report of it.
    shown = trainshed.ok("job", "show", f"torchrun-fails-{backend}").err
    assert re.search(r"--- ranks/stderr-1\.txt\n.*I am rank 1", shown, re.DOTALL), shown
    told = trainshed.ok("job", "logs", f"torchrun-fails-{backend}", "--file", "stderr-1.txt").out
    assert "I am rank 1" in told and "exitcode  : 3" in told


#: In the first round all ranks meet by files, then one fails; in the second all succeed.
_FAILS_ONCE = """
import os, pathlib, sys, time
rank = os.environ["RANK"]
# In one write, so that the ranks' lines stay whole.
os.write(1, f"{rank} {os.environ['WORLD_SIZE']} {os.environ['LOCAL_RANK']}\\n".encode())
shared = pathlib.Path(os.environ["AZ_BATCHAI_SHARED_JOB_TEMP"])
if not (shared / "again").exists():
    (shared / f"here-{rank}").touch()
    while rank != "2" or len(list(shared.glob("here-*"))) < 3:
        time.sleep(0.02)
    (shared / "again").touch()
    sys.exit(3)
"""


@needs_torch
def test_torchrun_restarts_all_ranks(shared_service: LiveService, trainshed: Program) -> None:
    _submit(trainshed, "torchrun-restarts", _FAILS_ONCE, "torchrunSettings", processCount=3, maxRestarts=1)
    waited = _wait(trainshed, "torchrun-restarts")
    assert waited.code == 0, waited.err
    started = [
        trainshed.ok("job", "logs", "torchrun-restarts", "--file", f"stdout-{node}.txt").out.splitlines()
        for node in (0, 1)
    ]
    # Each of the three ranks twice, where it was.
    assert [sorted(lines) for lines in started] == [["0 3 0", "0 3 0", "1 3 1", "1 3 1"], ["2 3 0", "2 3 0"]]
    # By rank, both times in one log.
    for rank, local in ((0, 0), (1, 1), (2, 0)):
        own = trainshed.ok("job", "logs", "torchrun-restarts", "--rank", str(rank)).out
        assert own == f"{rank} 3 {local}\n" * 2
    nodes = {log.rank: log.node for log in shared_service.client.jobs.logs("torchrun-restarts") if log.role == "rank"}
    assert nodes[0] == nodes[1] != nodes[2] and all(nodes.values())
