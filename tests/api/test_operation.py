"""What operators and tools look at: probes, metrics, the OpenAPI document."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.api.service import EXPERIMENT, JOB, NEW, OLD, WS, Service
from trainshed.api.endpoints import ENDPOINTS

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/openapi.json"])
def test_open_to_whoever_reaches_the_port(service: Service, path: str) -> None:
    assert service.send("GET", path, token=None, version=None).status_code == 200


def test_not_ready_without_its_engine(service: Service) -> None:
    service.controller.engine_available = False
    answer = service.send("GET", "/readyz", token=None)
    assert answer.status_code == 503
    assert "not connected" in answer.json()["engine"]
    assert service.send("GET", "/healthz", token=None).status_code == 200


def test_not_ready_without_its_database(service: Service) -> None:
    service.db.close_sync()
    answer = service.send("GET", "/readyz", token=None)
    assert (answer.status_code, answer.json()["engine"]) == (503, "ok")


def _metrics(service: Service) -> dict[str, float]:
    text = service.send("GET", "/metrics", token=None).text
    return {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if not line.startswith("#")
    }


def test_metrics_count_jobs_nodes_and_requests(shed: Service) -> None:
    shed.make_job()
    shed.make_job("k")
    shed.controller.start(shed.controller.provision(count=2)[:1])
    for _ in range(3):
        shed.send("GET", JOB)
    shed.send("GET", f"{EXPERIMENT}/jobs/absent")
    found = _metrics(shed)
    assert found['trainshed_jobs{state="queued"}'] == found["trainshed_queue_length"] == 1
    assert found['trainshed_jobs{state="running"}'] == 1
    assert found['trainshed_nodes{state="ready"}'] == 2
    route = next(endpoint.path for endpoint in ENDPOINTS if endpoint.operation_id == "Jobs_Get")
    requests = {key: value for key, value in found.items() if key.startswith("trainshed_http_requests_total")}
    assert requests[f'trainshed_http_requests_total{{method="GET",route="{route}",status="200"}}'] == 3
    assert requests[f'trainshed_http_requests_total{{method="GET",route="{route}",status="404"}}'] == 1
    assert found[f'trainshed_http_request_duration_seconds_count{{method="GET",route="{route}"}}'] == 4
    assert found["process_resident_memory_bytes"] > 0


def test_metrics_do_not_grow_with_paths_that_do_not_exist(service: Service) -> None:
    service.send("GET", "/a")
    before = set(_metrics(service))
    for number in range(5):
        service.send(f"M{number}", f"/nothing-{number}")
    assert {key for key in set(_metrics(service)) - before if "http_requests_total" in key} <= {
        'trainshed_http_requests_total{method="GET",route="/metrics",status="200"}'
    }


def test_no_name_of_a_resource_is_in_the_metrics(shed: Service) -> None:
    shed.make_job()
    assert not re.search(r'route="[^"]*/(sub|ws|exp)[/"]', shed.send("GET", "/metrics").text)


@pytest.fixture
def document(service: Service) -> dict[str, Any]:
    found: dict[str, Any] = service.send("GET", "/openapi.json", token=None, version=None).json()
    return found


def test_document_has_every_route(document: dict[str, Any]) -> None:
    described = {(path, method.upper()) for path, methods in document["paths"].items() for method in methods}
    assert described == {(endpoint.path.replace(":path}", "}"), endpoint.method) for endpoint in ENDPOINTS}


def test_document_has_no_dangling_reference(document: dict[str, Any]) -> None:
    references = set(re.findall(r"'\$ref': '#/components/schemas/([^']+)'", str(document)))
    assert references
    assert references <= set(document["components"]["schemas"])


def test_document_describes_bodies_and_answers_of_jobs(document: dict[str, Any]) -> None:
    path = next(endpoint.path for endpoint in ENDPOINTS if endpoint.operation_id == "Jobs_Create")
    put = document["paths"][path]["put"]
    body = put["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    properties = document["components"]["schemas"][body]["properties"]["properties"]["$ref"].rpartition("/")[2]
    assert "nodeCount" in document["components"]["schemas"][properties]["properties"]
    assert set(put["responses"]) == {"200", "202", "default"}
    named = {parameter["name"] for parameter in put["parameters"]}
    assert named == {"subscription", "group", "workspace", "experiment", "job", "api-version"}


def test_document_never_shows_a_secret_as_an_answers_value(document: dict[str, Any]) -> None:
    value = document["components"]["schemas"]["SecretVariable"]["properties"]["value"]
    assert "'writeOnly': True" in str(value)


def test_document_marks_open_and_newer_routes(document: dict[str, Any]) -> None:
    assert document["paths"]["/healthz"]["get"]["security"] == []
    events = document["paths"][next(path for path in document["paths"] if path.endswith("{job}/events"))]["get"]
    version = next(parameter for parameter in events["parameters"] if parameter["name"] == "api-version")
    assert version["schema"]["enum"] == [NEW]


def test_the_original_has_a_document_of_its_own(service: Service, document: dict[str, Any]) -> None:
    original = service.send("GET", "/openapi.json", token=None, version=OLD).json()
    assert (original["info"]["version"], document["info"]["version"]) == (OLD, NEW)
    assert "2026" not in str(original["components"]) and "x-since" not in str(original)
    described = {operation["operationId"] for methods in original["paths"].values() for operation in methods.values()}
    assert described == {endpoint.operation_id for endpoint in ENDPOINTS if not endpoint.newer}
    references = set(re.findall(r"'\$ref': '#/components/schemas/([^']+)'", str(original)))
    assert references == set(original["components"]["schemas"])


def test_the_newer_document_marks_what_the_original_has_not(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert {name for name, schema in schemas["JobProperties"]["properties"].items() if "x-since" in schema} == {
        "codeSnapshot",
        "retryPolicy",
        "gpusPerProcess",
        "preemption",
        "dependsOn",
        "torchrunSettings",
        "jaxSettings",
        "deepSpeedSettings",
        "accelerateSettings",
        "lightningSettings",
        "raySettings",
    }
    assert schemas["ClusterProperties"]["properties"]["preemption"]["x-since"] == NEW
    assert schemas["AutoScaleSettings"]["properties"]["idleTimeBeforeScaleDown"]["x-since"] == NEW
    assert "x-since" not in schemas["JobProperties"]["properties"]["nodeCount"]


def test_a_document_of_no_version_is_refused(service: Service) -> None:
    refused = service.send("GET", "/openapi.json", token=None, version="2017-09-01-preview")
    assert refused.status_code == 400
    assert OLD in refused.json()["error"]["message"] and NEW in refused.json()["error"]["message"]


def test_the_document_is_made_once(service: Service) -> None:
    assert service.app.openapi() is service.app.openapi()


def test_every_write_wakes_the_controller_after_its_commit(shed: Service) -> None:
    seen: list[int] = []

    def wake() -> None:
        seen.append(len(shed.dump()["jobs"]))

    object.__setattr__(shed.services, "wake", wake)
    object.__setattr__(shed.services, "wake_queue", wake)
    shed.make_job()
    assert seen == [1]
    shed.send("GET", WS)
    assert seen == [1]
