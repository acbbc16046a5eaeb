"""What listings print, in each form."""

from __future__ import annotations

import json

import pytest
import yaml

from tests.cli.conftest import Run
from tests.client.stub_service import EXPERIMENT, WORKSPACE, StubService, answer

CLUSTER_ID = f"{WORKSPACE}/clusters/nc6"


def job(name: str, state: str, **info: object) -> dict[str, object]:
    return {
        "id": f"{EXPERIMENT}/jobs/{name}",
        "name": name,
        "properties": {
            "cluster": {"id": CLUSTER_ID},
            "nodeCount": 2,
            "toolType": "custom",
            "provisioningState": "succeeded",
            "executionState": state,
            "executionInfo": info,
        },
    }


JOBS = [job("digits", "succeeded", exitCode=0), job("broken", "failed", exitCode=3), job("later", "queued")]


@pytest.fixture(autouse=True)
def jobs(stub: StubService) -> None:
    stub.on("GET", f"{EXPERIMENT}/jobs", answer({"value": JOBS}))


def test_the_job_table(trainshed: Run) -> None:
    assert trainshed("job", "list").out == (
        "Name    Cluster  Cluster RG  Cluster Workspace  Tool    Nodes  State      Exit code  Created\n"
        "------  -------  ----------  -----------------  ------  -----  ---------  ---------  -------\n"
        "digits  nc6      trainshed   default            custom      2  succeeded          0\n"
        "broken  nc6      trainshed   default            custom      2  failed             3\n"
        "later   nc6      trainshed   default            custom      2  queued\n"
    )


@pytest.mark.parametrize(("number", "shown"), [(1, "queued (waits for 1 job)"), (12, "queued (waits for 12 jobs)")])
def test_a_job_that_waits_for_others_says_so(trainshed: Run, stub: StubService, number: int, shown: str) -> None:
    waiting = job("later", "queued")
    waiting["properties"]["unmetDependencies"] = number
    stub.on("GET", f"{EXPERIMENT}/jobs", answer({"value": [waiting]}))
    assert shown in trainshed("job", "list").out
    # It is a queued job all the same.
    assert shown in trainshed("job", "list", "--state", "queued").out


def test_json_is_the_contracts(trainshed: Run) -> None:
    assert json.loads(trainshed("job", "list", "-o", "json").out) == JOBS


def test_yaml_says_the_same(trainshed: Run) -> None:
    assert yaml.safe_load(trainshed("job", "list", "-o", "yaml").out) == JOBS


def test_quiet_prints_names(trainshed: Run) -> None:
    assert trainshed("job", "list", "-o", "quiet").out == "digits\nbroken\nlater\n"


def test_the_form_may_come_from_the_environment(trainshed: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINSHED_OUTPUT", "quiet")
    assert trainshed("job", "list").out == "digits\nbroken\nlater\n"


def test_jobs_are_filtered_by_state(trainshed: Run) -> None:
    assert trainshed("job", "list", "--state", "failed", "-o", "quiet").out == "broken\n"


def test_the_cluster_table(trainshed: Run, stub: StubService) -> None:
    counts = dict.fromkeys(("runningNodeCount", "preparingNodeCount", "leavingNodeCount"), 0)
    properties = {
        "vmSize": "LOCAL_HALF",
        "provisioningState": "succeeded",
        "allocationState": "steady",
        "nodeStateCounts": {**counts, "idleNodeCount": 2, "unusableNodeCount": 1},
    }
    stub.on(
        "GET",
        f"{WORKSPACE}/clusters",
        answer({"value": [{"id": CLUSTER_ID, "name": "nc6", "properties": properties}]}),
    )
    assert trainshed("cluster", "list").out.splitlines() == [
        "Name  Resource Group  Workspace  VM Size     State   Idle  Running  Preparing  Leaving  Unusable  Engine",
        "----  --------------  ---------  ----------  ------  ----  -------  ---------  -------  --------  ------",
        "nc6   trainshed       default    LOCAL_HALF  steady     2        0          0        0         1  local",
    ]


def test_the_file_table(trainshed: Run, stub: StubService) -> None:
    files = [
        {"name": "stdout.txt", "fileType": "file", "properties": {"contentLength": 2048}},
        {"name": "sub", "fileType": "directory"},
    ]
    stub.on("POST", f"{EXPERIMENT}/jobs/digits/listOutputFiles", answer({"value": files}))
    assert trainshed("job", "file", "list", "-j", "digits").out.splitlines() == [
        "Name        Type          Size  Modified",
        "----------  ---------  -------  --------",
        "stdout.txt  file       2.0 KiB",
        "sub         directory",
    ]


def test_text_of_others_cannot_steer_the_terminal(trainshed: Run, stub: StubService) -> None:
    stub.on("GET", f"{EXPERIMENT}/jobs", answer({"value": [job("a\x1b[2Jb", "queued")]}))
    out = trainshed("job", "list").out
    assert "\x1b" not in out
    assert "a?[2Jb" in out


@pytest.mark.parametrize(("name", "code"), [("digits", 0), ("broken", 3)])
def test_wait_exits_as_the_job(trainshed: Run, stub: StubService, name: str, code: int) -> None:
    stub.on("GET", f"{EXPERIMENT}/jobs/{name}", answer(next(one for one in JOBS if one["name"] == name)))
    result = trainshed("job", "wait", name)
    assert result.code == code
    assert f"job {name} " in result.err
    assert result.out == ""


def test_a_terminated_job_exits_143(trainshed: Run, stub: StubService) -> None:
    errors = [{"code": "JobTerminated", "message": "The specified job has been terminated by the user"}]
    stub.on("GET", f"{EXPERIMENT}/jobs/t", answer(job("t", "failed", errors=errors)))
    result = trainshed("job", "wait", "t")
    assert result.code == 143
    assert "was terminated" in result.err


def test_explain_gives_the_reason(trainshed: Run, stub: StubService) -> None:
    queued = job("later", "queued")
    why = {"code": "WaitingForNodes", "message": "2 nodes are needed, 1 is idle", "details": {"needed": "2"}}
    queued["properties"] = {**queued["properties"], "whyWaiting": why}
    stub.on("GET", f"{EXPERIMENT}/jobs/later", answer(queued))
    stub.on("GET", f"{EXPERIMENT}/jobs/later/attempts", answer({"value": []}))
    refused = {"id": "n2", "state": "unusable", "reason": {"code": "NodeSetupFailed", "message": "Its setup failed."}}
    stub.on("GET", f"{EXPERIMENT}/jobs/later/explanation", answer({"whyWaiting": why, "refusedNodes": [refused]}))
    assert trainshed("job", "explain", "later").out == (
        "job later is queued: 2 nodes are needed, 1 is idle (WaitingForNodes)\n"
        "  node n2 is unusable: Its setup failed.\n"
    )


def test_names_of_live_objects_are_completed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from click.shell_completion import shell_complete

    from trainshed.cli.main import cli

    monkeypatch.setenv("COMP_WORDS", "trainshed job show d")
    monkeypatch.setenv("COMP_CWORD", "3")
    assert shell_complete(cli, {}, "trainshed", "_TRAINSHED_COMPLETE", "bash_complete") == 0
    assert capsys.readouterr().out == "plain,digits\n"


def test_events_are_a_table_with_reasons(trainshed: Run, stub: StubService) -> None:
    placed = {"time": "2026-11-01T10:00:00Z", "kind": "job", "event": "placed", "fromState": "queued"}
    lost = {
        "kind": "attempt",
        "event": "lost",
        "toState": "lost",
        "reason": {"code": "NodeLost", "message": "node died"},
    }
    stub.on("GET", f"{EXPERIMENT}/jobs/digits/events", answer({"value": [{**placed, "toState": "running"}, lost]}))
    assert trainshed("job", "events", "digits").out.splitlines() == [
        "Time                  What     Event   State              Why",
        "--------------------  -------  ------  -----------------  ---------",
        "2026-11-01T10:00:00Z  job      placed  queued -> running",
        "                      attempt  lost    lost               node died",
    ]


def test_the_node_table(trainshed: Run, stub: StubService) -> None:
    reason = {"code": "SetupTaskFailed", "message": "exit code 1"}
    nodes = [{"id": "tvm-1_1", "state": "unusable", "address": "127.1.0.4", "hostName": "n0", "reason": reason}]
    stub.on("GET", f"{CLUSTER_ID}/nodes", answer({"value": nodes}))
    assert trainshed("cluster", "node", "list", "nc6").out.splitlines()[2] == (
        "tvm-1_1  unusable  127.1.0.4  n0                   exit code 1"
    )
