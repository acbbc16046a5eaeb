"""The contract's JSON of resources: shape, order, and what is absent when."""

from __future__ import annotations

from typing import Any

import pytest

from tests.resources.bodies import cluster, file_server, job
from trainshed.resources import views
from trainshed.resources.definition import definition
from trainshed.resources.parsing import parse_cluster, parse_file_server, parse_job

AT = 1528319162350
TIME = "2018-06-06T21:06:02.35Z"
WHERE = {"subscription": "s", "resource_group": "Grp"}
BASE = "/subscriptions/s/resourceGroups/grp/providers/Microsoft.BatchAI/workspaces/w"
TIMES: dict[str, Any] = {"state": "succeeded", "state_at": AT, "created_at": AT}
PROVISIONED = {
    "creationTime": TIME,
    "provisioningState": "succeeded",
    "provisioningStateTransitionTime": TIME,
}


def test_a_workspace() -> None:
    view = views.workspace_view(**WHERE, name="w", location="local", tags={}, **TIMES)
    assert view == {
        "id": BASE,
        "name": "w",
        "type": "Microsoft.BatchAI/workspaces",
        "location": "local",
        "properties": PROVISIONED,
    }
    tagged = views.workspace_view(**WHERE, name="w", location="local", tags={"a": "b"}, **TIMES)
    assert list(tagged) == ["id", "name", "type", "location", "tags", "properties"]


def test_an_experiment() -> None:
    view = views.experiment_view(**WHERE, workspace="w", name="E", **TIMES)
    assert view == {
        "id": f"{BASE}/experiments/E",
        "name": "E",
        "type": "Microsoft.BatchAI/workspaces/experiments",
        "properties": PROVISIONED,
    }


def _cluster(body: dict[str, Any], **more: Any) -> dict[str, Any]:
    stored = definition(parse_cluster(body, "2018-05-01").model)
    arguments: dict[str, Any] = {"node_counts": {"idle": 1, "preparing": 2}, "scale": stored["scaleSettings"]}
    arguments |= more
    return views.cluster_view(
        **WHERE,
        workspace="w",
        name="c",
        definition=stored,
        allocation="resizing",
        allocation_at=AT,
        **TIMES,
        **arguments,
    )


SETUP = {"setupTask": {"commandLine": "true", "stdOutErrPathPrefix": "p"}}


def test_a_cluster_in_the_contracts_order() -> None:
    view = _cluster(cluster(nodeSetup=SETUP, subnet={"id": "/subscriptions/s/x"}), setup_suffix="a/b")
    properties = view["properties"]
    assert list(properties) == [
        "provisioningState",
        "allocationState",
        "creationTime",
        "allocationStateTransitionTime",
        "provisioningStateTransitionTime",
        "vmSize",
        "currentNodeCount",
        "nodeStateCounts",
        "vmPriority",
        "scaleSettings",
        "virtualMachineConfiguration",
        "userAccountSettings",
        "nodeSetup",
        "subnet",
    ]
    assert properties["currentNodeCount"] == 3
    assert properties["nodeStateCounts"] == {
        "runningNodeCount": 0,
        "idleNodeCount": 1,
        "unusableNodeCount": 0,
        "preparingNodeCount": 2,
        "leavingNodeCount": 0,
    }
    assert properties["nodeSetup"]["setupTask"]["stdOutErrPathSuffix"] == "a/b"
    assert properties["userAccountSettings"] == {"adminUserName": "trainer"}
    assert view["type"] == "Microsoft.BatchAI/workspaces/clusters"


def test_a_cluster_shows_errors_and_the_scale_now_in_force() -> None:
    now = {"manual": {"targetNodeCount": 9, "nodeDeallocationOption": "terminate"}}
    properties = _cluster(cluster(), errors=[{"code": "X", "message": "m"}], scale=now, extra={"n": 1})["properties"]
    assert properties["errors"] == [{"code": "X", "message": "m"}]
    assert properties["scaleSettings"] == now
    assert properties["n"] == 1
    assert "nodeSetup" not in properties and "subnet" not in properties


def test_a_file_server() -> None:
    stored = definition(parse_file_server(file_server(), "2018-05-01").model)
    view = views.file_server_view(**WHERE, workspace="w", name="f", definition=stored, **TIMES)
    assert view["id"] == f"{BASE}/fileservers/f"
    assert "mountSettings" not in view["properties"]
    mounted = views.file_server_view(
        **WHERE, workspace="w", name="f", definition=stored, mount_settings={"mountPoint": "/data"}, **TIMES
    )
    assert mounted["properties"]["mountSettings"] == {"mountPoint": "/data"}


def _job(**more: Any) -> dict[str, Any]:
    body = job(
        environmentVariables=[{"name": "A", "value": "b"}],
        secrets=[{"name": "S", "value": "x"}],
        inputDirectories=[],
        outputDirectories=[{"id": "O", "pathPrefix": "p"}],
        jobPreparation={"commandLine": "true"},
        containerSettings={"imageSourceRegistry": {"image": "ubuntu"}},
        mountVolumes={},
    )
    arguments: dict[str, Any] = {"execution_state": "queued", "execution_at": AT} | more
    return views.job_view(
        **WHERE,
        workspace="w",
        experiment="e",
        name="j",
        definition=definition(parse_job(body, "2018-05-01").model),
        segment="seg",
        **TIMES,
        **arguments,
    )


def test_a_job_in_the_contracts_order() -> None:
    view = _job(execution_state="running", started_at=AT)
    assert view["id"] == f"{BASE}/experiments/e/jobs/j"
    assert list(view["properties"]) == [
        "experimentName",
        "schedulingPriority",
        "cluster",
        "jobOutputDirectoryPathSegment",
        "nodeCount",
        "containerSettings",
        "mountVolumes",
        "toolType",
        "customToolkitSettings",
        "jobPreparation",
        "stdOutErrPathPrefix",
        "inputDirectories",
        "outputDirectories",
        "environmentVariables",
        "secrets",
        "constraints",
        "creationTime",
        "provisioningState",
        "provisioningStateTransitionTime",
        "executionState",
        "executionStateTransitionTime",
        "executionInfo",
    ]
    assert view["properties"]["toolType"] == "custom"
    assert view["properties"]["secrets"] == [{"name": "S"}]


FAILED = [{"code": "JobFailed", "message": "Job failed with non-zero exit code"}]
TERMINATED = [{"code": "JobTerminated", "message": "The specified job has been terminated by the user"}]


@pytest.mark.parametrize(
    ("values", "info"),
    [
        ({"execution_state": "queued"}, None),
        # A job queued again has started before, but shows nothing while it waits.
        ({"execution_state": "queued", "started_at": AT}, None),
        ({"execution_state": "running", "started_at": AT}, {"startTime": TIME}),
        ({"execution_state": "terminating", "started_at": AT}, {"startTime": TIME}),
        ({"execution_state": "terminating"}, None),
        (
            {"execution_state": "succeeded", "started_at": AT, "ended_at": AT, "exit_code": 0},
            {"startTime": TIME, "endTime": TIME, "exitCode": 0},
        ),
        (
            {"execution_state": "failed", "started_at": AT, "ended_at": AT, "exit_code": 2, "errors": FAILED},
            {"startTime": TIME, "endTime": TIME, "exitCode": 2, "errors": FAILED},
        ),
        (
            {"execution_state": "failed", "started_at": AT, "ended_at": AT, "errors": TERMINATED},
            {"startTime": TIME, "endTime": TIME, "errors": TERMINATED},
        ),
    ],
)
def test_execution_info(values: dict[str, Any], info: dict[str, Any] | None) -> None:
    assert _job(**values)["properties"].get("executionInfo") == info


def test_extra_properties_come_last() -> None:
    assert list(_job(extra={"attempt": 2})["properties"])[-1] == "attempt"


def test_files_and_directories() -> None:
    assert views.file_view(name="a.txt", download_url="http://x", modified_at=AT, size=6) == {
        "name": "a.txt",
        "fileType": "file",
        "downloadUrl": "http://x",
        "properties": {"lastModified": "2018-06-06T21:06:02Z", "contentLength": 6},
    }
    assert views.directory_view(name="d") == {"name": "d", "fileType": "directory"}


def test_operations_under_way_and_ended() -> None:
    under_way = views.operation_view(
        id_url="http://h/x", name="x", status="InProgress", started_at=AT, resource_id="s$g"
    )
    assert under_way == {"id": "http://h/x", "name": "x", "status": "InProgress", "startTime": TIME}
    ended = views.operation_view(
        id_url="u", name="x", status="Succeeded", started_at=AT, ended_at=AT, resource_id="s$g"
    )
    assert ended["endTime"] == TIME and ended["properties"] == {"resourceId": "s$g"}
    failed = views.operation_view(
        id_url="u", name="x", status="Failed", started_at=AT, ended_at=AT, error={"code": "c", "message": "m"}
    )
    assert failed["error"] == {"code": "c", "message": "m"} and "properties" not in failed


def test_pages() -> None:
    assert views.list_view([]) == {"value": []}
    assert views.list_view([{"a": 1}], "http://next") == {"value": [{"a": 1}], "nextLink": "http://next"}


def test_remote_login() -> None:
    assert views.remote_login_view(node_id="n", ip_address="1.2.3.4", port=50000) == {
        "nodeId": "n",
        "ipAddress": "1.2.3.4",
        "port": 50000,
    }
