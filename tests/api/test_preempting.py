"""POST .../jobs/{job}/preempt: what it records, for whom, and when it is refused."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.callers import make_caller
from tests.api.service import CLUSTER, JOB, JOB_KEY, NEW, WS, Service, cluster_body, job_body
from trainshed.resources.lifecycle import AttemptState
from trainshed.resources.preemption import StopWarning
from trainshed.store import attempts, jobs
from trainshed.store.records import AttemptRecord

pytestmark = pytest.mark.slow

PREEMPT = f"{JOB}/preempt"


def running(shed: Service, **properties: Any) -> str:
    shed.make_job(body=job_body(**properties), version=NEW)
    return shed.controller.start(shed.controller.provision(count=1))


def attempt_of(shed: Service, attempt_id: str) -> AttemptRecord:
    return shed.controller.db.read_sync(lambda tx: attempts.get(tx, attempt_id))


def test_it_is_asked_to_stop_with_its_own_warning(shed: Service) -> None:
    attempt_id = running(shed, preemption={"signal": "SIGTERM", "gracePeriod": "PT2M"})
    wakes = shed.controller.wakes
    answer = shed.send("POST", PREEMPT, version=NEW)
    assert (answer.status_code, answer.json()["properties"]["executionState"]) == (200, "running")
    assert shed.controller.wakes > wakes
    attempt = attempt_of(shed, attempt_id)
    assert (attempt.state, attempt.after_stop) == (AttemptState.STOPPING, "requeue")
    assert attempt.stop_warning == StopWarning("SIGTERM", 120.0)
    assert attempt.stop_reason is not None
    assert attempt.stop_reason.code.value == "Preempted"
    assert attempt.stop_reason.details["gracePeriod"] == "PT2M"
    # Once more is the same.
    assert shed.send("POST", PREEMPT, version=NEW).status_code == 200
    assert attempt_of(shed, attempt_id) == attempt


def test_who_did_it_is_in_the_reason_and_in_the_audit_log(shed: Service) -> None:
    attempt_id = running(shed)
    token = make_caller(shed, "olga", ("Cluster Operator", WS))
    assert shed.send("POST", PREEMPT, version=NEW, token=token).status_code == 200
    reason = attempt_of(shed, attempt_id).stop_reason
    assert reason is not None and reason.details["preemptedBy"] == "olga"
    entries = shed.send("GET", "/providers/Trainshed.Audit/entries", version=NEW, caller="olga").json()["value"]
    assert [(entry["action"].rpartition("/jobs/")[2], entry["outcome"]) for entry in entries] == [
        ("preempt/action", "accepted")
    ]


def test_readers_may_not(shed: Service) -> None:
    attempt_id = running(shed)
    token = make_caller(shed, "rita", ("Reader", WS))
    assert shed.send("POST", PREEMPT, version=NEW, token=token).status_code == 403
    assert attempt_of(shed, attempt_id).stop_reason is None


def test_a_call_that_is_repeated_does_not_meet_the_next_attempt(shed: Service) -> None:
    attempt_id = running(shed)
    assert shed.send("POST", PREEMPT, version=NEW, attempt=2).status_code == 200
    assert attempt_of(shed, attempt_id).stop_reason is None
    assert shed.send("POST", PREEMPT, version=NEW, attempt=1).status_code == 200
    assert attempt_of(shed, attempt_id).stop_reason is not None
    assert shed.send("POST", PREEMPT, version=NEW, attempt="one").status_code == 400


@pytest.mark.parametrize("ended", [False, True])
def test_only_a_running_job_has_nodes_to_give(shed: Service, ended: bool) -> None:
    shed.make_job(version=NEW)
    if ended:
        shed.controller.finish(shed.controller.start(shed.controller.provision(count=1)))
    before = shed.dump()
    answer = shed.send("POST", PREEMPT, version=NEW)
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "JobNotRunning")
    assert ("succeeded" if ended else "queued") in answer.json()["error"]["message"]
    assert {name: rows for name, rows in shed.dump().items() if name != "audit"} == {
        name: rows for name, rows in before.items() if name != "audit"
    }


def test_the_original_version_has_no_such_thing(shed: Service) -> None:
    running(shed)
    assert shed.send("POST", PREEMPT).status_code in (400, 404)


def test_an_absent_job(shed: Service) -> None:
    answer = shed.send("POST", PREEMPT, version=NEW)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "JobNotFound")


def test_how_often_is_shown_once_it_has_happened(shed: Service) -> None:
    attempt_id = running(shed)
    assert "preemptions" not in shed.send("GET", JOB, version=NEW).json()["properties"]
    shed.send("POST", PREEMPT, version=NEW)
    reason = attempt_of(shed, attempt_id).stop_reason
    assert reason is not None
    shed.controller.db.write_sync(lambda tx: jobs.preempt(tx, jobs.get(tx, JOB_KEY).id, 5, reason))
    shown = shed.send("GET", JOB, version=NEW).json()["properties"]
    assert (shown["preemptions"], shown["requeueReason"]["code"]) == (1, "Preempted")
    assert "preemptions" not in shed.send("GET", JOB).json()["properties"]


def test_members_are_shown_by_the_newer_version_only(shed: Service) -> None:
    wanted = {"signal": "SIGUSR1", "gracePeriod": "PT1M"}
    shed.make_job(body=job_body(preemption=wanted), version=NEW)
    assert shed.send("GET", JOB, version=NEW).json()["properties"]["preemption"] == wanted
    assert "preemption" not in shed.send("GET", JOB).json()["properties"]
    # A client of the original sends the job again as it knows it.
    assert shed.send("PUT", JOB, job_body()).status_code == 200
    body = cluster_body(preemption={"enabled": True})
    path = CLUSTER.rpartition("/")[0] + "/other"
    assert shed.send("PUT", path, body, version=NEW).status_code == 202
    stored = {"enabled": True, "maxGracePeriod": "PT10M"}
    assert shed.send("GET", path, version=NEW).json()["properties"]["preemption"] == stored
    assert "preemption" not in shed.send("GET", path).json()["properties"]
    assert shed.send("PUT", path, cluster_body()).status_code == 200
