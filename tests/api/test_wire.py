"""The wire: headers, long-running operations, case of paths, lists in pages (rest-contract sections 1 and 3)."""

from __future__ import annotations

import json
import re
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.api.service import (
    BASE,
    CLUSTER,
    EXPERIMENT,
    JOB,
    OLD,
    PROVIDER,
    WS,
    Service,
    cluster_body,
    job_body,
)
from trainshed.resources.lifecycle import OperationEvent
from trainshed.resources.reasons import Reason, ReasonCode

LOCATIONS = "/subscriptions/sub/providers/Microsoft.BatchAI/locations/local"


def test_accepted_answers_have_crossed_headers(shed: Service) -> None:
    answer = shed.send("PUT", JOB, job_body())
    assert (answer.status_code, answer.content) == (202, b"")
    results, statuses = answer.headers["Azure-AsyncOperation"], answer.headers["Location"]
    match = re.fullmatch(rf"{BASE}{LOCATIONS}/operationresults/([0-9a-f-]{{36}})\?api-version={OLD}", results)
    assert match is not None
    assert statuses == f"{BASE}{LOCATIONS}/operationstatuses/{match[1]}?api-version={OLD}"
    assert (answer.headers["Retry-After"], answer.headers["Content-Length"]) == ("1", "0")


def test_a_jobs_creation_is_done_when_it_is_accepted(shed: Service) -> None:
    polled = shed.send("GET", shed.send("PUT", JOB, job_body()).headers["Azure-AsyncOperation"])
    assert polled.status_code == 200
    result = polled.json()
    name = result["name"]
    assert result == {
        "id": f"{BASE}{LOCATIONS}/operationresults/{name}",
        "name": name,
        "status": "Succeeded",
        "startTime": "2018-06-06T21:06:02Z",
        "endTime": "2018-06-06T21:06:02Z",
        "properties": {"resourceId": "sub$group$ws$exp$j"},
    }


def test_an_operation_in_progress(shed: Service) -> None:
    answer = shed.send("DELETE", CLUSTER)
    result = shed.send("GET", answer.headers["Azure-AsyncOperation"])
    assert (result.status_code, result.headers["Retry-After"]) == (200, "1")
    assert set(result.json()) == {"id", "name", "status", "startTime"}
    status = shed.send("GET", answer.headers["Location"])
    assert (status.status_code, status.content) == (202, b"")
    shed.controller.finish_operations()
    assert shed.send("GET", answer.headers["Location"]).json()["status"] == "Succeeded"


def test_a_failed_operation_says_why(shed: Service) -> None:
    answer = shed.send("DELETE", CLUSTER)
    reason = Reason(ReasonCode.ENGINE_UNAVAILABLE, "The engine is away.")
    shed.controller.finish_operations(OperationEvent.FAILED, reason)
    result = shed.send("GET", answer.headers["Azure-AsyncOperation"]).json()
    assert result["status"] == "Failed"
    assert result["error"] == {"code": "EngineUnavailable", "message": "The engine is away."}


def test_headers_of_every_answer(shed: Service) -> None:
    headers = shed.send("GET", WS).headers
    assert headers["Content-Type"] == "application/json; charset=utf-8"
    assert (headers["Cache-Control"], headers["Pragma"], headers["Expires"]) == ("no-cache", "no-cache", "-1")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains"
    assert headers["x-ms-request-id"] == headers["x-ms-correlation-request-id"] == headers["request-id"]
    assert re.fullmatch(r"LOCAL:\d{8}T\d{6}Z:[0-9a-f-]{36}", headers["x-ms-routing-request-id"])
    assert re.fullmatch(r'"0x8D5CBF[0-9A-F]+"', headers["ETag"])
    assert headers["Last-Modified"] == "Wed, 06 Jun 2018 21:06:02 GMT"
    assert "x-ms-ratelimit-remaining-subscription-reads" in headers


@pytest.mark.parametrize("path", [f"{WS}/clusters", f"{EXPERIMENT}/jobs", f"{EXPERIMENT}/jobs/absent"])
def test_lists_and_errors_have_no_etag(shed: Service, path: str) -> None:
    headers = shed.send("GET", path).headers
    assert "ETag" not in headers and "Last-Modified" not in headers
    assert "request-id" in headers


def test_etag_follows_users_changes_only(shed: Service) -> None:
    shed.make_job()
    before = shed.send("GET", JOB).headers["ETag"]
    shed.clock.now += 5000
    shed.controller.provision(count=1)
    shed.controller.start(["tvm-1_0-20180606t210834z"])
    answer = shed.send("GET", JOB)
    assert answer.json()["properties"]["executionState"] == "running"
    assert answer.headers["ETag"] == before


def test_members_that_are_not_known_are_named_in_a_warning(shed: Service) -> None:
    body = job_body(colour="red", customToolkitSettings={"commandLine": "true", "shell": 'a "b"'})
    answer = shed.send("PUT", JOB, body)
    assert answer.status_code == 202
    warning = answer.headers["Warning"]
    assert warning.startswith('299 - "') and warning.endswith('"')
    assert "properties.colour" in warning and "properties.customToolkitSettings.shell" in warning


@pytest.mark.parametrize(
    "path",
    [
        "/SUBSCRIPTIONS/sub/RESOURCEGROUPS/Group/PROVIDERS/microsoft.batchai/WORKSPACES/ws/EXPERIMENTS/exp/JOBS/j",
        "/subscriptions/sub/resourcegroups/group/providers/microsoft.batchai/workspaces/ws/experiments/exp/jobs/j",
        "/subscriptions/SUB/resourceGroups/GROUP/providers/Microsoft.BatchAI/workspaces/WS/experiments/EXP/jobs/J/",
    ],
)
def test_paths_match_without_regard_to_case(shed: Service, path: str) -> None:
    shed.make_job()
    assert shed.send("GET", path).json()["name"] == "j"


def test_a_name_that_is_a_fixed_segment_keeps_its_case(service: Service) -> None:
    answer = service.send("PUT", f"{PROVIDER}/workspaces/CLUSTERS", {"location": "local"})
    assert answer.json()["name"] == "CLUSTERS"


def test_actions_match_without_regard_to_case(shed: Service) -> None:
    shed.make_job()
    assert shed.send("POST", f"{JOB}/LISTOUTPUTFILES", outputdirectoryid="stdouterr").json() == {"value": []}
    assert shed.send("GET", f"{WS}/fileservers").json() == {"value": []}
    assert shed.send("POST", f"{JOB}/Terminate").status_code == 202


def test_query_names_match_without_regard_to_case(shed: Service) -> None:
    answer = shed.send("GET", f"{WS}/clusters", version=None, **{"API-Version": OLD, "MaxResults": "1"})
    assert answer.status_code == 200


def _walk(service: Service, path: str, version: str = OLD, **query: object) -> tuple[list[str], int]:
    names: list[str] = []
    answer: httpx.Response = service.send("GET", path, version=version, **query)
    pages = 1
    while True:
        body = answer.json()
        names += [entry["name"] for entry in body["value"]]
        if "nextLink" not in body:
            return names, pages
        assert urlsplit(body["nextLink"]).netloc == urlsplit(BASE).netloc
        assert parse_qs(urlsplit(body["nextLink"]).query)["api-version"] == [version]
        answer = service.send("GET", body["nextLink"])
        pages += 1


def test_jobs_come_in_pages_in_order_of_submission(shed: Service) -> None:
    names = ["z", "a", "m", "B", "b2"]
    for name in names:
        shed.make_job(name)
    assert _walk(shed, f"{EXPERIMENT}/jobs", maxresults=2) == (names, 3)
    assert _walk(shed, f"{EXPERIMENT}/jobs", maxresults=5) == (names, 1)


def test_workspaces_come_in_pages_in_order_of_name(service: Service) -> None:
    for name in ("b", "C", "a"):
        service.send("PUT", f"{PROVIDER}/workspaces/{name}", {"location": "local"})
    service.send("PUT", f"{PROVIDER.replace('/Group/', '/Other/')}/workspaces/d", {"location": "local"})
    assert _walk(service, f"{PROVIDER}/workspaces", maxresults=1) == (["a", "b", "C"], 3)
    subscription = "/subscriptions/sub/providers/Microsoft.BatchAI/workspaces"
    assert _walk(service, subscription, maxresults=3) == (["a", "b", "C", "d"], 2)


def test_clusters_and_experiments_are_listed(shed: Service) -> None:
    shed.send("PUT", f"{WS}/clusters/a", cluster_body())
    shed.send("PUT", f"{WS}/experiments/a")
    assert _walk(shed, f"{WS}/clusters", maxresults=1) == (["a", "c"], 2)
    assert _walk(shed, f"{WS}/experiments", maxresults=1) == (["a", "exp"], 2)


@pytest.mark.parametrize("path", [f"{WS}/clusters", f"{WS}/experiments", f"{WS}/fileServers"])
def test_lists_of_an_absent_workspace_are_404(service: Service, path: str) -> None:
    assert service.send("GET", path).json()["error"]["code"] == "WorkspaceNotFound"


def test_answers_are_compact_json(shed: Service) -> None:
    content = shed.send("GET", WS).content
    assert content == json.dumps(json.loads(content), separators=(",", ":")).encode()
