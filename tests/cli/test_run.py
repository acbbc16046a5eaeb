"""``trainshed run``, ``job create`` and ``job logs`` against a stub service that plays a short job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run
from tests.client.stub_service import EXPERIMENT, WORKSPACE, Answer, Asked, StubService, answer, refusal
from trainshed.cli import following
from trainshed.client.code import read_folder, snapshot_id

pytestmark = pytest.mark.slow

CLUSTER = f"{WORKSPACE}/clusters/default"
SUBSCRIPTION_PROVIDER = "/subscriptions/00000000-0000-0000-0000-000000000000/providers/Microsoft.BatchAI"
JOB = f"{EXPERIMENT}/jobs/j"
SIZES = [
    {"name": "LOCAL", "numberOfCores": 4, "gpus": 0},
    {"name": "LOCAL_HALF", "numberOfCores": 2, "gpus": 0},
    {"name": "LOCAL_1CPU", "numberOfCores": 1, "gpus": 0},
    {"name": "STANDARD_D1", "numberOfCores": 1, "gpus": 0},
]


class Play:
    """The stub's workspace, experiment, cluster and one job that goes from queued through running to its end."""

    def __init__(self, stub: StubService) -> None:
        self.stub = stub
        self.states = ["queued", "running", "succeeded"]
        self.ending: dict[str, Any] = {"exitCode": 0}
        self.job: dict[str, Any] = {}
        self.cluster: dict[str, Any] = {}
        stub.on("GET", f"{SUBSCRIPTION_PROVIDER}/locations/local/vmSizes", answer({"value": SIZES}))
        for path in (WORKSPACE, EXPERIMENT):
            stub.on("PUT", path, answer({"id": path, "name": "default", "properties": {}}))
        stub.on("PUT", CLUSTER, self._put_cluster)
        stub.on("GET", CLUSTER, self._get_cluster)
        stub.on("PATCH", CLUSTER, self._put_cluster)
        stub.on("PUT", JOB, self._put_job)
        stub.on("GET", JOB, self._get_job)
        for file, text in (("stdout.txt", b"out\n"), ("stderr.txt", b"err\n")):
            stub.on("GET", f"{JOB}/logs/{file}", lambda asked, text=text: self._log(asked, text))

    def has_parents(self) -> None:
        for path in (WORKSPACE, EXPERIMENT):
            self.stub.on("GET", path, answer({"id": path, "name": "default", "properties": {}}))

    def has_cluster(self, nodes: int) -> None:
        self.cluster = {"vmSize": "LOCAL", "scaleSettings": {"manual": {"targetNodeCount": nodes}}}

    def _put_cluster(self, asked: Asked) -> Answer:
        self.cluster = {**self.cluster, **asked.json()["properties"]}
        return self._get_cluster(asked)

    def _get_cluster(self, asked: Asked) -> Answer:
        if not self.cluster:
            return refusal(404, "ClusterNotFound", "The specified cluster default is not found")
        return answer({"id": CLUSTER, "name": "default", "properties": self.cluster})

    def _put_job(self, asked: Asked) -> Answer:
        self.job = asked.json()["properties"]
        return Answer(202)

    def _get_job(self, asked: Asked) -> Answer:
        if not self.job:
            return refusal(404, "JobNotFound", "The specified job j is not found")
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        info = self.ending if state in ("succeeded", "failed") else {}
        properties = {**self.job, "toolType": "custom", "executionState": state, "executionInfo": info}
        return answer({"id": JOB, "name": "j", "properties": properties})

    def _log(self, asked: Asked, text: bytes) -> Answer:
        rest = text[int(asked.query["offset"]) :]
        return Answer(pieces=(rest,) if rest else ())


@pytest.fixture
def play(stub: StubService) -> Play:
    return Play(stub)


def test_run_makes_what_is_missing_and_streams(trainshed: Run, play: Play) -> None:
    result = trainshed("run", "--name", "j", "-n", "2", "--no-code", "--", "echo", "a b")
    assert (result.code, result.out) == (0, "out\n")
    assert "made the workspace default" in result.err
    assert "made the experiment default" in result.err
    assert "made cluster default: 2 nodes of size LOCAL_HALF" in result.err
    assert "err\n" in result.err
    assert result.err.endswith("job j succeeded\n")
    assert play.job["customToolkitSettings"] == {"commandLine": "echo 'a b'"}
    assert play.job["cluster"] == {"id": CLUSTER}
    assert play.job["nodeCount"] == 2


def test_run_exits_as_the_job(trainshed: Run, play: Play) -> None:
    play.has_parents()
    play.has_cluster(1)
    play.states[-1] = "failed"
    play.ending = {"exitCode": 7, "errors": [{"code": "JobFailed", "message": "Job failed with non-zero exit code"}]}
    result = trainshed("run", "--name", "j", "--no-code", "--", "false")
    assert result.code == 7
    assert "job j failed with exit code 7\n  JobFailed: Job failed" in result.err


def test_run_grows_the_default_cluster(trainshed: Run, play: Play) -> None:
    play.has_parents()
    play.has_cluster(1)
    result = trainshed("run", "--name", "j", "-n", "3", "--no-code", "--", "true")
    assert "resized cluster default from 1 to 3 nodes" in result.err
    assert play.cluster["scaleSettings"] == {"manual": {"targetNodeCount": 3}}


def test_run_leaves_a_named_cluster_as_it_is(trainshed: Run, play: Play) -> None:
    play.has_parents()
    play.has_cluster(1)
    trainshed("run", "--name", "j", "-n", "3", "-c", "default", "--no-code", "--", "true")
    assert play.stub.requests("PATCH", CLUSTER) == []


def test_run_sends_the_folders_code(trainshed: Run, play: Play) -> None:
    play.has_parents()
    play.has_cluster(1)
    Path("train.py").write_text("print()")
    manifest, _ = read_folder(Path.cwd(), [])
    digest = manifest["train.py"]["sha256"]
    play.stub.on("POST", f"{WORKSPACE}/code/missing", answer({"missing": [digest]}))
    play.stub.on("POST", f"{WORKSPACE}/code/blobs", answer({"files": 1}))
    play.stub.on("PUT", f"{WORKSPACE}/code/snapshots/{snapshot_id(manifest)}", answer({}))
    result = trainshed("run", "--name", "j", "--", "python", "train.py")
    assert result.code == 0
    assert play.job["codeSnapshot"] == snapshot_id(manifest)


def test_run_does_not_take_over_a_job_of_the_same_name(trainshed: Run, play: Play) -> None:
    play.has_parents()
    play.job = {"nodeCount": 1}
    result = trainshed("run", "--name", "j", "--no-code", "--", "true")
    assert result.code == 1
    assert "JobExists" in result.err


def test_detached_the_name_is_all_that_is_said(trainshed: Run, play: Play) -> None:
    play.has_parents()
    play.has_cluster(1)
    assert trainshed("run", "--name", "j", "--no-code", "--detach", "--", "true").out == "j\n"


@pytest.mark.parametrize("twice", [False, True])
def test_interrupting_detaches_and_twice_terminates(
    trainshed: Run, play: Play, monkeypatch: pytest.MonkeyPatch, twice: bool
) -> None:
    play.has_parents()
    play.has_cluster(1)
    play.stub.on("POST", f"{JOB}/terminate", Answer(202))

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(following, "_stay", interrupted)
    monkeypatch.setattr(following, "SECOND_THOUGHTS", 0.01)
    if twice:
        monkeypatch.setattr(following.time, "sleep", interrupted)
    result = trainshed("run", "--name", "j", "--no-code", "--", "sleep", "99")
    assert result.code == 130
    assert "Come back with: trainshed job logs -f j" in result.err
    assert len(play.stub.requests("POST", f"{JOB}/terminate")) == int(twice)


def test_job_create_takes_the_originals_file(trainshed: Run, play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    play.has_parents()
    play.has_cluster(1)
    monkeypatch.setenv("AZURE_BATCHAI_STORAGE_ACCOUNT", "acc")
    monkeypatch.setenv("AZURE_BATCHAI_STORAGE_KEY", "a2V5")
    Path("job.json").write_text(
        """{
        "$schema": "https://raw.githubusercontent.com/Azure/BatchAI/master/schemas/2018-05-01/job.json",
        // a comment
        "properties": {
            "nodeCount": 1,
            "customToolkitSettings": {"commandLine": "true"},
            "stdOutErrPathPrefix": "$AZ_BATCHAI_JOB_MOUNT_ROOT/logs",
            "mountVolumes": {"azureFileShares": [{
                "azureFileUrl": "https://<AZURE_BATCHAI_STORAGE_ACCOUNT>.file.core.windows.net/logs",
                "relativeMountPath": "logs",
            }]},
        }}"""
    )
    result = trainshed("job", "create", "j", "-c", "default", "-f", "job.json", "-o", "json")
    assert result.code == 0
    assert json.loads(result.out)["name"] == "j"
    assert play.job["mountVolumes"]["azureFileShares"] == [
        {
            "azureFileUrl": "https://acc.file.core.windows.net/logs",
            "relativeMountPath": "logs",
            "accountName": "acc",
            "credentials": {"accountKey": "a2V5"},
        }
    ]
    assert play.job["cluster"] == {"id": CLUSTER}
    assert play.stub.requests("PUT", JOB)[0].query["api-version"] == "2018-05-01"


def test_run_waits_for_other_jobs(trainshed: Run, play: Play) -> None:
    play.has_parents()
    play.has_cluster(1)
    times = [("b", "2026-01-02T00:00:00Z"), ("a", "2026-01-01T00:00:00Z")]
    listed = [{"name": name, "properties": {"creationTime": time}} for name, time in times]
    play.stub.on("GET", f"{EXPERIMENT}/jobs", answer({"value": listed}))
    named = ["--after-ok", "last", "--after", "exp/x", "--after-any", "y", "--after-any", "z"]
    assert trainshed("run", "--name", "j", "--no-code", *named, "--", "true").code == 0
    assert play.job["dependsOn"] == [
        {"job": "exp/x", "condition": "after"},
        {"job": "b", "condition": "afterOk"},
        {"job": "y", "condition": "afterAny"},
        {"job": "z", "condition": "afterAny"},
    ]


def test_a_job_file_that_waits_is_never_sent_in_a_version_that_would_not(trainshed: Run, play: Play) -> None:
    play.has_parents()
    play.has_cluster(1)
    Path("job.json").write_text(json.dumps({"properties": {"nodeCount": 1, "dependsOn": [{"job": "prepare"}]}}))
    assert trainshed("job", "create", "j", "-f", "job.json", "-c", "default", "--after", "x").code == 0
    [put] = play.stub.requests("PUT", JOB)
    assert put.query["api-version"] == "2026-11-01"
    assert put.json()["properties"]["dependsOn"] == [{"job": "prepare"}, {"job": "x", "condition": "after"}]


def test_job_create_refuses_a_name_that_is_taken(trainshed: Run, play: Play) -> None:
    play.job = {"nodeCount": 1}
    Path("job.json").write_text('{"properties": {}}')
    result = trainshed("job", "create", "j", "-c", "default", "-f", "job.json")
    assert result.code == 1
    assert result.err.startswith("error: JobExists: there is a job j in experiment default already")
    assert play.stub.requests("PUT", JOB) == []


def test_a_broken_job_file_is_named_with_its_line(trainshed: Run, play: Play) -> None:
    Path("job.json").write_text('{\n"properties": {nope}}')
    result = trainshed("job", "create", "j", "-f", "job.json")
    assert result.code == 1
    assert "job.json: The job file is not JSON" in result.err
    assert "line 2" in result.err


@pytest.mark.parametrize(
    ("text", "lines", "printed"),
    [
        (b"1\n2\n3\n", 2, "2\n3\n"),
        (b"1\n2\n3", 2, "2\n3"),
        (b"1\n2\n3\n", 0, ""),
        (b"1\n2\n3\n", 9, "1\n2\n3\n"),
        (b"", 3, ""),
    ],
)
def test_tail_prints_the_last_lines(trainshed: Run, play: Play, text: bytes, lines: int, printed: str) -> None:
    play.job, play.states = {"nodeCount": 1}, ["succeeded"]
    play.stub.on("GET", f"{JOB}/logs/stdout.txt", lambda asked: play._log(asked, text))
    files = {"value": [{"name": "stdout.txt", "fileType": "file"}]}
    play.stub.on("POST", f"{JOB}/listOutputFiles", answer(files))
    assert trainshed("job", "logs", "j", "--tail", str(lines)).out == printed


def test_logs_fall_back_on_the_first_log_that_is_there(trainshed: Run, play: Play) -> None:
    play.job, play.states = {"nodeCount": 1}, ["succeeded"]
    files = {"value": [{"name": name, "fileType": "file"} for name in ("execution.log", "stdout-1.txt")]}
    play.stub.on("POST", f"{JOB}/listOutputFiles", answer(files))
    play.stub.on("GET", f"{JOB}/logs/stdout-1.txt", lambda asked: play._log(asked, b"rank 1\n"))
    result = trainshed("job", "logs", "j")
    assert (result.out, result.code) == ("rank 1\n", 0)
    assert "there is no stdout.txt; this is stdout-1.txt" in result.err
