"""Rules of the contract that no other test holds; docs/contract-rules.md says where each of them is tested."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.api.service import CLUSTER, EXPERIMENT, JOB, NEW, OLD, PROVIDER, WS, Service, cluster_body, job_body
from trainshed.resources.lifecycle import OperationEvent
from trainshed.store import jobs


@pytest.mark.parametrize("tags", [{}, None])
def test_patched_tags(service: Service, tags: dict[str, str] | None) -> None:
    service.send("PUT", WS, {"location": "local", "tags": {"a": "1"}})
    answer = service.send("PATCH", WS, {"tags": tags})
    # Empty tags replace those that were, and are left out of answers; null is no tags at all.
    assert answer.json().get("tags") == ({"a": "1"} if tags is None else None)


@pytest.mark.parametrize("path", [JOB, EXPERIMENT, f"{WS}/fileServers/nfs"])
def test_only_workspaces_and_clusters_can_be_patched(shed: Service, path: str) -> None:
    shed.make_job()
    before = shed.dump()
    answer = shed.send("PATCH", path, {"properties": {}})
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, "MethodNotAllowed")
    assert shed.dump() == before


@pytest.mark.parametrize("kind", ["clusters", "experiments", "jobs", "fileServers"])
def test_only_workspaces_are_listed_in_a_subscription(service: Service, kind: str) -> None:
    answer = service.send("GET", f"/subscriptions/sub/providers/Microsoft.BatchAI/{kind}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "InvalidResourceType")


def test_a_cluster_with_all_that_the_service_fills_in(shed: Service) -> None:
    body = cluster_body(
        nodeSetup={
            "setupTask": {
                "commandLine": "true",
                "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/x",
                "secrets": [{"name": "TOKEN", "value": "hush"}],
            },
            "mountVolumes": {
                "azureFileShares": [
                    {
                        "accountName": "account",
                        "azureFileUrl": "https://account.file.core.windows.net/share",
                        "credentials": {"accountKey": "key"},
                        "relativeMountPath": "afs",
                    }
                ]
            },
            "performanceCountersSettings": {
                "appInsightsReference": {"component": {"id": "/subscriptions/s/c"}, "instrumentationKey": "hush"}
            },
        },
        virtualMachineConfiguration={"imageReference": {"publisher": "P", "offer": "O", "sku": "S"}},
        scaleSettings={"autoScale": {"minimumNodeCount": 1, "maximumNodeCount": 2}},
        errors=[{"code": "sent back by a client"}],
    )
    path = f"{WS}/clusters/full"
    assert shed.send("PUT", path, body).status_code == 202
    shown: dict[str, Any] = shed.send("GET", path).json()["properties"]
    suffix = shown["nodeSetup"]["setupTask"].pop("stdOutErrPathSuffix")
    assert re.fullmatch(r"sub/group/workspaces/ws/clusters/full/[0-9a-f-]{36}", suffix)
    assert shown["nodeSetup"] == {
        "setupTask": {
            "commandLine": "true",
            "secrets": [{"name": "TOKEN"}],
            "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/x",
        },
        "mountVolumes": {
            "azureFileShares": [
                {
                    "accountName": "account",
                    "azureFileUrl": "https://account.file.core.windows.net/share",
                    "credentials": {},
                    "relativeMountPath": "afs",
                    "fileMode": "0777",
                    "directoryMode": "0777",
                }
            ]
        },
        "performanceCountersSettings": {"appInsightsReference": {"component": {"id": "/subscriptions/s/c"}}},
    }
    image = {"publisher": "P", "offer": "O", "sku": "S", "version": "latest"}
    assert shown["virtualMachineConfiguration"] == {"imageReference": image}
    assert shown["scaleSettings"] == {
        "autoScale": {"minimumNodeCount": 1, "maximumNodeCount": 2, "initialNodeCount": 0}
    }
    assert shown["userAccountSettings"] == {"adminUserName": "trainer"}
    counts = {f"{state}NodeCount": 0 for state in ("running", "idle", "unusable", "preparing", "leaving")}
    assert (shown["vmPriority"], shown["currentNodeCount"], shown["nodeStateCounts"]) == ("dedicated", 0, counts)
    assert (shown["creationTime"], "errors" in shown) == (shown["allocationStateTransitionTime"], False)


def test_a_cluster_without_anything_optional_gets_the_originals_image(shed: Service) -> None:
    image = {"publisher": "Canonical", "offer": "UbuntuServer", "sku": "16.04-LTS", "version": "latest"}
    shown = shed.send("GET", CLUSTER).json()["properties"]
    assert shown["virtualMachineConfiguration"] == {"imageReference": image}
    assert "nodeSetup" not in shown and "subnet" not in shown


def test_a_job_with_all_that_the_service_fills_in(shed: Service) -> None:
    job = shed.make_job()
    assert shed.send("GET", JOB).json() == {
        "id": f"{EXPERIMENT.replace('/Group/', '/group/')}/jobs/j",
        "name": "j",
        "type": "Microsoft.BatchAI/workspaces/experiments/jobs",
        "properties": {
            "experimentName": "exp",
            "schedulingPriority": "normal",
            "cluster": {"id": CLUSTER.replace("/Group/", "/group/")},
            "jobOutputDirectoryPathSegment": f"sub/group/workspaces/ws/experiments/exp/jobs/j/{job.uid}",
            "nodeCount": 1,
            "toolType": "custom",
            "customToolkitSettings": {"commandLine": "true"},
            "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/logs",
            "constraints": {"maxWallClockTime": "P7D"},
            "creationTime": "2018-06-06T21:06:02Z",
            "provisioningState": "succeeded",
            "provisioningStateTransitionTime": "2018-06-06T21:06:02Z",
            "executionState": "queued",
            "executionStateTransitionTime": "2018-06-06T21:06:02Z",
        },
    }


@pytest.mark.parametrize(
    ("given", "shown"),
    [("7.00:00:00", "P7D"), ("PT2H", "PT2H"), ("P1DT0H", "P1D"), ("1:30:00", "PT1H30M"), ("PT90S", "PT1M30S")],
)
def test_durations_are_shown_as_iso_8601(shed: Service, given: str, shown: str) -> None:
    shed.make_job(body=job_body(constraints={"maxWallClockTime": given}))
    assert shed.send("GET", JOB).json()["properties"]["constraints"] == {"maxWallClockTime": shown}


def test_what_a_client_read_it_may_send_back(shed: Service) -> None:
    body = job_body(toolType="custom", executionState="running", experimentName="exp", provisioningState="succeeded")
    answer = shed.send("PUT", JOB, {"id": JOB, "name": "j", "type": "t", **body})
    assert (answer.status_code, "Warning" in answer.headers) == (202, False)
    assert shed.send("GET", JOB).json()["properties"]["executionState"] == "queued"


def test_terminate_again_and_of_an_ended_job(shed: Service) -> None:
    shed.make_job()
    shed.send("POST", f"{JOB}/terminate")
    again = shed.send("POST", f"{JOB}/terminate")
    assert again.status_code == 202 and "Location" in again.headers
    shed.controller.finish(succeeded=False)
    shed.controller.finish_operations()
    ended = shed.send("POST", f"{JOB}/terminate")
    assert (ended.status_code, ended.content, "Location" in ended.headers) == (200, b"", False)
    # What newer clients ask for at the end of the first call.
    assert shed.send("GET", again.headers["Location"]).json()["status"] == "Succeeded"


@pytest.mark.parametrize("name", ["Azure-AsyncOperation", "Location"])
def test_polls_of_the_end_do_not_say_when_to_come_back(shed: Service, name: str) -> None:
    url = shed.send("DELETE", CLUSTER).headers[name]
    assert shed.send("GET", url).headers["Retry-After"] == "1"
    shed.controller.finish_operations(OperationEvent.SUCCEEDED)
    assert "Retry-After" not in shed.send("GET", url).headers


def test_the_region_of_an_operation_is_the_workspaces(service: Service) -> None:
    service.send("PUT", WS, {"location": "North Europe"})
    assert "/locations/North%20Europe/operationresults/" in service.send("DELETE", WS).headers["Azure-AsyncOperation"]


@pytest.mark.parametrize("version", [OLD, NEW])
def test_operations_answer_in_the_version_that_was_used(shed: Service, version: str) -> None:
    headers = shed.send("PUT", JOB, job_body(), version=version).headers
    for name in ("Azure-AsyncOperation", "Location"):
        assert headers[name].endswith(f"?api-version={version}")


def test_the_same_job_name_in_two_experiments_is_two_jobs(shed: Service) -> None:
    shed.send("PUT", f"{WS}/experiments/other")
    first = shed.make_job()
    assert shed.send("PUT", f"{WS}/experiments/other/jobs/j", job_body(nodeCount=2)).status_code == 202
    assert shed.apply(lambda tx: jobs.get(tx, "sub/group/ws/other/j")).uid != first.uid


def test_a_job_may_use_a_cluster_of_another_workspace(shed: Service) -> None:
    other = f"{PROVIDER}/workspaces/other"
    shed.send("PUT", other, {"location": "local"})
    shed.send("PUT", f"{other}/experiments/e")
    assert shed.send("PUT", f"{other}/experiments/e/jobs/j", job_body()).status_code == 202


@pytest.mark.parametrize(
    ("method", "kind"),
    [("GET", "reads"), ("HEAD", "reads"), ("PUT", "writes"), ("POST", "writes"), ("DELETE", "deletes")],
)
def test_what_is_left_of_the_rate_limit(shed: Service, method: str, kind: str) -> None:
    found = [name for name in shed.send(method, WS, {"location": "local"}).headers if "ratelimit" in name]
    assert found == [f"x-ms-ratelimit-remaining-subscription-{kind}"]


def test_failures_close_the_connection(shed: Service) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    shed.make_job()
    object.__setattr__(shed.services, "explain", broken)
    answer = shed.send("GET", JOB, version=NEW)
    assert (answer.headers["Connection"], answer.headers["x-ms-failure-cause"]) == ("close", "gateway")
    assert "request-id" not in answer.headers
    told = answer.json()["error"]["message"]
    assert (
        "subscription id 'sub'" in told and f"correlation id '{answer.headers['x-ms-correlation-request-id']}'" in told
    )


def test_no_refusal_asks_clients_to_register_the_provider(shed: Service) -> None:
    shed.make_job()
    conflict = shed.send("PUT", JOB, job_body(nodeCount=2))
    assert conflict.status_code == 409
    assert conflict.json()["error"]["code"] != "MissingSubscriptionRegistration"


@pytest.mark.parametrize("given", ["$filter", "$select", "$top"])
def test_parameters_of_other_versions_are_ignored(shed: Service, given: str) -> None:
    assert shed.send("GET", f"{WS}/clusters", **{given: "x"}).status_code == 200
