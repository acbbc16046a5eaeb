"""Retries, errors, paging, tokens, and a service that moves."""

from __future__ import annotations

import pytest

from tests.client.stub_service import EXPERIMENT, TOKEN, WORKSPACE, Answer, StubService, answer, refusal, running_stub
from trainshed.client import Client, Connection, NotFoundError, ServiceError, ServiceUnreachableError
from trainshed.client.transport import PAUSES

JOB = f"{EXPERIMENT}/jobs/j"
A_JOB = {"id": JOB, "name": "j", "properties": {"executionState": "queued"}}


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_passing_trouble_is_asked_again(client: Client, stub: StubService, pauses: list[float], status: int) -> None:
    stub.on("GET", JOB, Answer(status), Answer(status), answer(A_JOB))
    assert client.jobs.get("j").name == "j"
    assert len(pauses) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 409, 413, 501, 505])
def test_a_refusal_is_not_asked_again(client: Client, stub: StubService, status: int) -> None:
    stub.on("GET", JOB, refusal(status, "Refused", "no"))
    with pytest.raises(ServiceError) as caught:
        client.jobs.get("j")
    assert (caught.value.code, caught.value.status) == ("Refused", status)
    assert len(stub.requests("GET", JOB)) == 1


def test_retries_have_a_bound(client: Client, stub: StubService, pauses: list[float]) -> None:
    stub.on("GET", JOB, refusal(503, "Busy", "later"))
    with pytest.raises(ServiceError, match="later"):
        client.jobs.get("j")
    assert len(stub.requests("GET", JOB)) == len(PAUSES) + 1
    assert sum(pauses) < 10


def test_retry_after_is_honoured(client: Client, stub: StubService, pauses: list[float]) -> None:
    stub.on("GET", JOB, answer({}, 503, Retry_After="7"), answer(A_JOB))
    client.jobs.get("j")
    assert pauses == [7.0]


def test_a_broken_connection_is_asked_again_with_put_as_well(client: Client, stub: StubService) -> None:
    stub.on("PUT", JOB, Answer(break_off=True), answer(A_JOB))
    assert client.jobs.create("j", {"nodeCount": 1}).name == "j"
    assert [asked.json() for asked in stub.requests("PUT", JOB)] == [{"properties": {"nodeCount": 1}}] * 2


def test_a_service_that_is_gone_is_said_so(pauses: list[float]) -> None:
    with running_stub() as gone:
        url = gone.url
    with Client(connection=Connection(url, TOKEN)) as client, pytest.raises(ServiceUnreachableError, match="GET /"):
        client.jobs.get("j")


def test_a_service_that_was_restarted_elsewhere_is_found(
    monkeypatch: pytest.MonkeyPatch, pauses: list[float], stub: StubService
) -> None:
    with running_stub() as gone:
        monkeypatch.setenv("TRAINSHED_URL", gone.url)
        client = Client()
    stub.on("GET", JOB, answer(A_JOB))
    monkeypatch.setenv("TRAINSHED_URL", stub.url)
    with client:
        assert client.jobs.get("j").name == "j"


def test_an_error_carries_target_and_details(client: Client, stub: StubService) -> None:
    details = [{"code": "SupportedVMSizes", "message": "A,B", "target": "properties.vmSize"}]
    stub.on("GET", JOB, refusal(400, "InvalidPropertyValue", "bad", target="properties.vmSize", details=details))
    with pytest.raises(ServiceError) as caught:
        client.jobs.get("j")
    assert caught.value.target == "properties.vmSize"
    assert caught.value.details[0].message == "A,B"


def test_absence_has_its_own_error(client: Client, stub: StubService) -> None:
    stub.on("GET", JOB, refusal(404, "JobNotFound", "The specified job j is not found"))
    with pytest.raises(NotFoundError, match="The specified job j is not found"):
        client.jobs.get("j")


def test_an_answer_of_somebody_else_is_still_an_error(client: Client, stub: StubService) -> None:
    stub.on("GET", JOB, Answer(418, b"<html>teapot"))
    with pytest.raises(ServiceError, match="teapot") as caught:
        client.jobs.get("j")
    assert caught.value.code == "Http418"


def test_lists_follow_next_link_as_it_is(client: Client, stub: StubService) -> None:
    jobs = f"{EXPERIMENT}/jobs"
    first = {"value": [{"id": "1", "name": "a"}], "nextLink": f"{stub.url}{jobs}?api-version=2026-11-01&skip=x"}
    stub.on("GET", jobs, answer(first), answer({"value": [{"id": "2", "name": "b"}]}))
    assert [job.name for job in client.jobs.list(limit_per_page=1)] == ["a", "b"]
    one, two = stub.requests("GET", jobs)
    assert one.query == {"api-version": "2026-11-01", "maxresults": "1"}
    assert two.query == {"api-version": "2026-11-01", "skip": "x"}


def test_listing_output_files_pages_with_post(client: Client, stub: StubService) -> None:
    path = f"{JOB}/listOutputFiles"
    stub.on(
        "POST",
        path,
        answer({"value": [{"name": "a", "fileType": "file"}], "nextLink": f"{stub.url}{path}?more=1"}),
        answer({"value": [{"name": "b", "fileType": "directory"}]}),
    )
    assert [file.name for file in client.jobs.output_files("j")] == ["a", "b"]


def test_every_request_carries_token_and_version(client: Client, stub: StubService) -> None:
    stub.on("GET", WORKSPACE, answer({"id": WORKSPACE, "name": "default"}))
    client.workspaces.get()
    (asked,) = stub.asked
    assert asked.headers["authorization"] == f"Bearer {TOKEN}"
    assert asked.query["api-version"] == "2026-11-01"


def test_the_token_does_not_travel_to_another_host(client: Client, stub: StubService) -> None:
    with running_stub() as other:
        other.on("GET", "/elsewhere", answer({"value": []}))
        stub.on("GET", f"{EXPERIMENT}/jobs", answer({"value": [], "nextLink": f"{other.url}/elsewhere"}))
        assert list(client.jobs.list()) == []
        assert "authorization" not in other.asked[0].headers


def test_warnings_of_the_service_are_passed_on(stub: StubService) -> None:
    heard: list[str] = []
    stub.on("PUT", JOB, answer(A_JOB, Warning='299 - "ignored: properties.foo"'))
    with Client(connection=Connection(stub.url, TOKEN), on_warning=heard.append) as client:
        client.jobs.create("j", {})
    assert heard == ["ignored: properties.foo"]


def test_names_are_quoted_in_paths(client: Client, stub: StubService) -> None:
    stub.on("GET", f"{EXPERIMENT}/jobs/a b/c", answer(A_JOB))
    assert client.jobs.get("a b/c").name == "j"


def test_another_scope_shares_the_connection(client: Client, stub: StubService) -> None:
    path = WORKSPACE.replace("/default", "/w2") + "/experiments/e2/jobs/j"
    stub.on("GET", path, answer(A_JOB))
    assert client.at(workspace="w2", experiment="e2").jobs.get("j").name == "j"
