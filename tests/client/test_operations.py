"""Long-running operations, and waiting for a job."""

from __future__ import annotations

import pytest

from tests.client.stub_service import EXPERIMENT, WORKSPACE, Answer, StubService, answer
from trainshed.client import Client, OperationFailedError
from trainshed.client.errors import JobWaitTimeoutError
from trainshed.resources.lifecycle import JobState

JOB = f"{EXPERIMENT}/jobs/j"
CLUSTER = f"{WORKSPACE}/clusters/c"
OPERATION = "/operationresults/1"


def _accepted(stub: StubService) -> Answer:
    return Answer(202, headers={"Azure-AsyncOperation": stub.url + OPERATION, "Location": f"{stub.url}/other"})


def test_delete_waits_for_its_end(client: Client, stub: StubService, pauses: list[float]) -> None:
    stub.on("DELETE", CLUSTER, _accepted(stub))
    stub.on("GET", OPERATION, answer({"status": "InProgress"}), answer({"status": "Succeeded"}))
    assert client.clusters.delete("c") is True
    assert len(stub.requests("GET", OPERATION)) == 2
    assert len(pauses) == 1


def test_deleting_nothing_is_told(client: Client, stub: StubService) -> None:
    stub.on("DELETE", CLUSTER, Answer(204))
    assert client.clusters.delete("c") is False


def test_without_waiting_nothing_is_polled(client: Client, stub: StubService) -> None:
    stub.on("DELETE", CLUSTER, _accepted(stub))
    client.clusters.delete("c", wait=False)
    assert stub.requests("GET", OPERATION) == []


def test_a_failed_operation_raises_its_error(client: Client, stub: StubService) -> None:
    stub.on("DELETE", CLUSTER, _accepted(stub))
    stub.on("GET", OPERATION, answer({"status": "Failed", "error": {"code": "InUse", "message": "still mounted"}}))
    with pytest.raises(OperationFailedError, match="still mounted") as caught:
        client.clusters.delete("c")
    assert caught.value.code == "InUse"


def test_later_polls_wait_as_long_as_the_service_asks(client: Client, stub: StubService, pauses: list[float]) -> None:
    stub.on("DELETE", CLUSTER, _accepted(stub))
    under_way = answer({"status": "InProgress"}, Retry_After="3")
    stub.on("GET", OPERATION, *[under_way] * 7, answer({"status": "Succeeded"}))
    client.clusters.delete("c")
    assert pauses[-1] == 3.0
    assert pauses[0] < 0.1


def test_a_create_that_was_accepted_reads_the_resource_back(client: Client, stub: StubService) -> None:
    stub.on("PUT", JOB, _accepted(stub))
    stub.on("GET", OPERATION, answer({"status": "Succeeded"}))
    stub.on("GET", JOB, answer({"id": JOB, "name": "j", "properties": {"executionState": "queued"}}))
    assert client.jobs.create("j", {}).execution_state is JobState.QUEUED


def test_waiting_ends_with_the_job(client: Client, stub: StubService) -> None:
    def job(state: str, **info: int) -> Answer:
        return answer({"id": JOB, "name": "j", "properties": {"executionState": state, "executionInfo": info}})

    stub.on("GET", JOB, job("queued"), job("running"), job("failed", exitCode=3))
    ended = client.jobs.wait("j")
    assert (ended.execution_state, ended.exit_code) == (JobState.FAILED, 3)


def test_waiting_has_a_bound(client: Client, stub: StubService) -> None:
    stub.on("GET", JOB, answer({"id": JOB, "name": "j", "properties": {"executionState": "queued"}}))
    with pytest.raises(JobWaitTimeoutError, match="still queued"):
        client.jobs.wait("j", timeout=0)
