"""dependsOn over the wire: what is accepted and refused, what is shown, and who may."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.service import EXPERIMENT, JOB, JOB_KEY, NEW, Service, job_body
from trainshed.resources.lifecycle import JobState
from trainshed.resources.reasons import ReasonCode
from trainshed.store import dependencies, jobs

pytestmark = pytest.mark.slow

WAITS = f"{EXPERIMENT}/jobs/waits"
WAITS_KEY = JOB_KEY.rpartition("/")[0] + "/waits"


def body(*on: dict[str, Any]) -> dict[str, Any]:
    return job_body(dependsOn=list(on))


def test_it_is_shown_by_the_newer_version_only(shed: Service) -> None:
    shed.make_job()
    assert shed.send("PUT", WAITS, body({"job": "J"}), version=NEW).status_code == 202
    newer = shed.send("GET", WAITS, version=NEW).json()["properties"]
    assert newer["dependsOn"] == [{"job": "J", "condition": "afterOk"}]
    assert (newer["unmetDependencies"], newer["executionState"]) == (1, "queued")
    listed = shed.send("GET", f"{EXPERIMENT}/jobs", version=NEW).json()["value"]
    assert [each["properties"].get("unmetDependencies") for each in listed] == [None, 1]
    original = shed.send("GET", WAITS).json()["properties"]
    assert "dependsOn" not in original and "unmetDependencies" not in original


def test_sent_again_it_is_the_same_job(shed: Service) -> None:
    shed.make_job()
    shed.send("PUT", WAITS, body({"job": "j"}), version=NEW)
    read = shed.send("GET", WAITS, version=NEW).json()
    shed.controller.finish(shed.controller.start(shed.controller.provision(count=1)))
    again = shed.send("PUT", WAITS, {"properties": read["properties"]}, version=NEW)
    assert again.status_code == 200
    other = shed.send("PUT", WAITS, body({"job": "j", "condition": "after"}), version=NEW)
    assert other.status_code == 409 and "properties.dependsOn" in other.json()["error"]["message"]


@pytest.mark.parametrize("condition", ["after", "afterOk", "AFTERANY"])
def test_what_is_met_already_is_not_waited_for(shed: Service, condition: str) -> None:
    shed.make_job()
    shed.controller.finish(shed.controller.start(shed.controller.provision(count=1)))
    shed.send("PUT", WAITS, body({"job": "exp/j", "condition": condition}), version=NEW)
    assert "unmetDependencies" not in shed.send("GET", WAITS, version=NEW).json()["properties"]


def test_what_cannot_be_met_any_more_ends_it_at_once(shed: Service) -> None:
    shed.make_job()
    shed.controller.finish(shed.controller.start(shed.controller.provision(count=1)), succeeded=False)
    assert shed.send("PUT", WAITS, body({"job": "j"}), version=NEW).status_code == 202
    record = shed.apply(lambda tx: jobs.get(tx, WAITS_KEY))
    assert (record.execution, record.blocked) == (JobState.FAILED, 0)
    assert record.errors[0].code is ReasonCode.DEPENDENCY_FAILED
    assert shed.apply(lambda tx: dependencies.unmet(tx, record.id)) == []


@pytest.mark.parametrize(
    ("on", "code", "said"),
    [
        ({"job": "nobody"}, "DependencyNotFound", "no job 'nobody' in experiment 'exp'"),
        ({"job": "other/j"}, "DependencyNotFound", "no job 'j' in experiment 'other'"),
        # It does not exist yet itself.
        ({"job": "waits"}, "DependencyNotFound", "no job 'waits'"),
        ({"job": "w/e/j"}, "InvalidPropertyValue", "is not a job of this workspace"),
        ({"job": "/subscriptions/s"}, "InvalidPropertyValue", "is not a job of this workspace"),
        ({"job": ""}, "InvalidPropertyValue", "is not a job of this workspace"),
        ({"job": "j", "condition": "afterNot"}, "InvalidPropertyValue", "Supported values: after, afterOk or afterAny"),
        ({"condition": "after"}, "InvalidRequestContent", "The other job"),
        ({"job": "j", "delay": "PT1M"}, "InvalidPropertyValue", "Delay is not known"),
    ],
)
def test_what_is_refused_changes_nothing(shed: Service, on: dict[str, Any], code: str, said: str) -> None:
    shed.make_job()
    before = shed.dump()
    answer = shed.send("PUT", WAITS, body({"job": "j"}, on), version=NEW)
    error = answer.json()["error"]
    assert answer.status_code == 400 and error["code"] == code, error
    assert said in error["message"] and "properties.dependsOn[1]" in error["target"]
    assert {name: rows for name, rows in shed.dump().items() if name != "audit"} == {
        name: rows for name, rows in before.items() if name != "audit"
    }


def test_one_that_is_being_deleted_is_not_waited_for(shed: Service) -> None:
    shed.make_job()
    shed.send("DELETE", JOB)
    answer = shed.send("PUT", WAITS, body({"job": "j"}), version=NEW)
    assert answer.status_code == 409 and "deleted" in answer.json()["error"]["message"]


def test_the_original_version_passes_it_over_and_says_so(shed: Service) -> None:
    answer = shed.send("PUT", WAITS, body({"job": "nobody"}))
    assert answer.status_code == 202 and "properties.dependsOn" in answer.headers["Warning"]
