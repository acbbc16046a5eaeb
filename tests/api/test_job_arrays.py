"""Job arrays over the wire: a job for each index, all or none, and ended together."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.service import EXPERIMENT, NEW, WS, Service, job_body
from trainshed.resources.lifecycle import JobState
from trainshed.store import dependencies, job_arrays, jobs, secrets
from trainshed.store.records import JobRecord

pytestmark = pytest.mark.slow

ARRAY = f"{EXPERIMENT}/jobArrays/sweep"
JOBS = f"{EXPERIMENT}/jobs"


def body(array: dict[str, Any], **properties: Any) -> dict[str, Any]:
    return job_body(array=array, **properties)


def stored(shed: Service) -> list[JobRecord]:
    """All jobs, in the order of their submission."""
    return shed.apply(lambda tx: [jobs.get_by_id(tx, id_) for id_ in jobs.of_experiment_ids(tx, "sub/group/ws/exp")])


def without_audit(shed: Service) -> dict[str, list[Any]]:
    return {name: rows for name, rows in shed.dump().items() if name != "audit"}


def test_one_put_makes_a_job_for_each_index(shed: Service) -> None:
    answer = shed.send("PUT", ARRAY, body({"indices": "0-1,8"}, secrets=[{"name": "S", "value": "v"}]), version=NEW)
    assert answer.status_code == 200, answer.text
    properties = answer.json()["properties"]
    assert (answer.json()["name"], properties["jobCount"], properties["array"]) == ("sweep", 3, {"indices": "0-1,8"})
    assert properties["jobCounts"]["queued"] == 3 and "value" not in properties["secrets"][0]
    listed = shed.send("GET", JOBS, version=NEW).json()["value"]
    assert [job["name"] for job in listed] == ["sweep-0", "sweep-1", "sweep-8"]
    last = listed[-1]["properties"]
    assert last["jobArray"] == {"name": "sweep", "index": 8} and "array" not in last
    assert {each["name"]: each["value"] for each in last["environmentVariables"]} == {
        "TRAINSHED_ARRAY_INDEX": "8",
        "TRAINSHED_ARRAY_COUNT": "3",
        "TRAINSHED_ARRAY_JOB": "sweep",
    }
    for job in stored(shed):
        assert set(shed.apply(lambda tx, uid=job.uid: secrets.get(tx, uid))) == {"/secrets/0"}
    # The original's clients see jobs.
    original = shed.send("GET", f"{JOBS}/sweep-8").json()["properties"]
    assert "jobArray" not in original and original["executionState"] == "queued"


def test_sent_again_it_is_the_same_array(shed: Service) -> None:
    first = shed.send("PUT", ARRAY, body({"count": 2}), version=NEW).json()
    assert shed.send("PUT", ARRAY, {"properties": first["properties"]}, version=NEW).json() == first
    assert len(stored(shed)) == 2
    assert shed.send("GET", ARRAY, version=NEW).json() == first
    assert shed.send("GET", f"{EXPERIMENT}/jobArrays", version=NEW).json()["value"] == [first]
    other = shed.send("PUT", ARRAY, body({"count": 3}), version=NEW)
    assert other.status_code == 409 and "properties.array.count" in other.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "sent", "status", "code"),
    [
        (ARRAY, body({}), 400, "InvalidPropertyValue"),
        (ARRAY, job_body(), 400, "InvalidRequestContent"),
        (f"{EXPERIMENT}/jobArrays/{'a' * 63}", body({"count": 11}), 400, "InvalidResourceName"),
        (ARRAY, body({"count": 2}, dependsOn=[{"job": "nobody"}]), 400, "DependencyNotFound"),
        # One of its jobs cannot be made.
        (ARRAY, body({"indices": "5-8"}), 409, "Conflict"),
        (ARRAY.replace("/exp/", "/no/"), body({"count": 2}), 404, "ParentResourceNotFound"),
    ],
)
def test_all_or_none(shed: Service, path: str, sent: dict[str, Any], status: int, code: str) -> None:
    shed.make_job("sweep-7")
    before = without_audit(shed)
    answer = shed.send("PUT", path, sent, version=NEW)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
    assert without_audit(shed) == before


def test_one_waits_for_a_whole_array(shed: Service) -> None:
    shed.send("PUT", ARRAY, body({"count": 3}), version=NEW)
    waits = job_body(dependsOn=[{"job": "sweep", "condition": "afterAny"}])
    assert shed.send("PUT", f"{JOBS}/report", waits, version=NEW).status_code == 202
    report = stored(shed)[-1]
    assert report.blocked == 3
    unmet = shed.apply(lambda tx: dependencies.unmet(tx, report.id))
    assert [each.on_name for each in unmet] == ["sweep-0", "sweep-1", "sweep-2"]


def test_jobs_of_an_array_elsewhere_are_named_with_their_experiment(shed: Service) -> None:
    assert shed.send("PUT", f"{WS}/experiments/other").status_code == 200
    shed.send("PUT", ARRAY.replace("/exp/", "/other/"), body({"count": 2}), version=NEW)
    waits = job_body(dependsOn=[{"job": "other/sweep"}])
    assert shed.send("PUT", f"{JOBS}/report", waits, version=NEW).status_code == 202
    [report] = stored(shed)
    unmet = shed.apply(lambda tx: dependencies.unmet(tx, report.id))
    assert [each.on_name for each in unmet] == ["other/sweep-0", "other/sweep-1"]


def test_more_conditions_than_are_kept_are_refused(shed: Service) -> None:
    shed.send("PUT", ARRAY, body({"count": 101}), version=NEW)
    more = body({"count": 100}, dependsOn=[{"job": "sweep"}])
    answer = shed.send("PUT", f"{EXPERIMENT}/jobArrays/more", more, version=NEW)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "TooManyDependencies")


def test_only_the_first_join_the_queue_where_it_says_so(shed: Service) -> None:
    shed.send("PUT", ARRAY, body({"count": 4, "maxRunning": 3}), version=NEW)
    assert [(job.blocked, job.waits_turn) for job in stored(shed)] == [(0, 0)] * 3 + [(1, 1)]
    shown = shed.send("GET", f"{JOBS}/sweep-3", version=NEW).json()["properties"]
    # It waits for its turn, not for what dependsOn says.
    assert "unmetDependencies" not in shown


def test_they_are_terminated_together(shed: Service) -> None:
    shed.send("PUT", ARRAY, body({"count": 3}), version=NEW)
    shed.make_job("beside")
    told = shed.send("POST", f"{ARRAY}/terminate", version=NEW)
    assert told.status_code == 200 and told.json()["properties"]["jobCounts"]["terminating"] == 3
    assert stored(shed)[-1].execution is JobState.QUEUED
    assert shed.send("POST", f"{ARRAY}/terminate", version=NEW).json() == told.json()


def test_it_is_deleted_with_its_jobs(shed: Service) -> None:
    shed.send("PUT", ARRAY, body({"count": 3}), version=NEW)
    assert shed.send("DELETE", ARRAY, version=NEW).status_code == 200
    assert {job.state.value for job in stored(shed)} == {"deleting"}
    assert shed.send("DELETE", ARRAY, version=NEW).status_code == 204
    missing = shed.send("GET", ARRAY, version=NEW)
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "JobArrayNotFound")


def test_a_thousand_jobs_are_made_at_once(shed: Service) -> None:
    assert shed.send("PUT", ARRAY, body({"count": 1000}), version=NEW).json()["properties"]["jobCount"] == 1000
    assert len(shed.apply(lambda tx: job_arrays.members(tx, job_arrays.get(tx, "sub/group/ws/exp/sweep").id))) == 1000


def test_the_original_version_has_no_arrays(shed: Service) -> None:
    assert shed.send("PUT", ARRAY, body({"count": 1})).status_code in (400, 404)
    assert stored(shed) == []
