"""The audit log: each change with its caller and outcome, in the transaction of the change; nothing of secrets."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from tests.api.callers import make_caller
from tests.api.service import CLUSTER, EXPERIMENT, JOB, NEW, WS, Service, job_body
from trainshed.store import audit

AUDIT = "/providers/Trainshed.Audit/entries"


def entries(service: Service, **query: Any) -> list[dict[str, Any]]:
    answer = service.send("GET", AUDIT, version=NEW, **query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["value"]
    return found


def test_changes_are_noted_with_caller_action_resource_and_outcome(shed: Service) -> None:
    token = make_caller(shed, "ann", ("Job Submitter", WS))
    assert shed.send("PUT", JOB, job_body(), token=token).status_code == 202
    assert shed.send("POST", f"{JOB}/terminate", token=token).status_code == 202
    assert shed.send("DELETE", CLUSTER, token=token).status_code == 403
    assert shed.send("PUT", JOB, b"{", token=token).status_code == 400
    assert shed.send("PUT", f"{EXPERIMENT}/jobs/k", job_body(nodeCount=0), token=token).status_code == 400
    assert shed.send("PUT", JOB, job_body(nodeCount=2), token=token).status_code == 409
    noted = [
        (entry["action"].rpartition("workspaces/")[2], entry["outcome"], entry.get("status"), entry.get("code"))
        for entry in entries(shed, caller="ann")
    ]
    assert noted == [
        ("experiments/jobs/write", "accepted", None, None),
        ("experiments/jobs/terminate/action", "accepted", None, None),
        ("clusters/delete", "refused", 403, "AuthorizationFailed"),
        ("experiments/jobs/write", "failed", 400, "InvalidRequestContent"),
        ("experiments/jobs/write", "failed", 400, "InvalidPropertyValue"),
        ("experiments/jobs/write", "failed", 409, "Conflict"),
    ]
    first = entries(shed, caller="ann")[0]
    assert first["resource"] == JOB
    assert first["source"] == "127.0.0.1"
    assert len(first["requestId"]) == 36
    assert {"principalId", "tokenId", "time", "sequence"} <= set(first)


def test_reading_is_not_noted(shed: Service) -> None:
    before = len(entries(shed))
    for method, path in (("GET", WS), ("GET", f"{WS}/clusters"), ("POST", f"{CLUSTER}/listRemoteLoginInformation")):
        assert shed.send(method, path).status_code == 200
    assert len(entries(shed)) == before


def test_a_change_and_its_entry_are_one_transaction(shed: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    before = shed.dump()

    def broken(*_: object) -> None:
        raise RuntimeError("the disk is full")

    monkeypatch.setattr(audit, "append", broken)
    assert shed.send("PUT", JOB, job_body()).status_code == 500
    assert shed.dump() == before


def test_the_log_can_be_filtered_and_paged(shed: Service) -> None:
    for number in range(5):
        shed.clock.now += 1000
        shed.send("PUT", f"{EXPERIMENT}{number}")
    everything = entries(shed)
    assert [entry["sequence"] for entry in everything] == sorted(entry["sequence"] for entry in everything)
    assert len(entries(shed, action="EXPERIMENTS/write")) == 6
    assert len(entries(shed, resource="exp3")) == 1
    assert entries(shed, resource="exp_") == []
    assert entries(shed, caller="nobody") == []
    assert entries(shed, outcome="refused") == []
    assert len(entries(shed, since=everything[-2]["time"])) == 2
    assert len(entries(shed, until=everything[-2]["time"])) == len(everything) - 2
    assert entries(shed, order="newest", maxresults=2) == everything[::-1][:2]
    walked, answer = [], shed.send("GET", AUDIT, version=NEW, maxresults=3, order="newest").json()
    while True:
        walked += answer["value"]
        if "nextLink" not in answer:
            break
        answer = shed.send("GET", answer["nextLink"], version=None).json()
    assert walked == everything[::-1]


@pytest.mark.parametrize(
    ("name", "value"), [("since", "yesterday"), ("outcome", "good"), ("order", "random"), ("scope", "x")]
)
def test_wrong_filters_are_refused(shed: Service, name: str, value: str) -> None:
    assert shed.send("GET", AUDIT, version=NEW, **{name: value}).status_code == 400


def test_whoever_reads_a_scope_sees_its_entries_only(shed: Service) -> None:
    other = WS.replace("/ws", "/ws2")
    shed.send("PUT", other, {"location": "local"})
    token = make_caller(shed, "rita", ("Reader", WS))
    assert shed.send("GET", AUDIT, version=NEW, token=token).status_code == 403
    assert shed.send("GET", AUDIT, version=NEW, token=token, scope=other).status_code == 403
    found = shed.send("GET", AUDIT, version=NEW, token=token, scope=WS).json()["value"]
    assert found
    assert all((entry["resource"].lower() + "/").startswith(WS.lower() + "/") for entry in found)


@pytest.mark.parametrize("statement", ["DELETE FROM audit", "UPDATE audit SET caller = 'somebody else'"])
def test_the_database_refuses_to_change_the_log(shed: Service, statement: str) -> None:
    before = shed.dump()
    with pytest.raises(DBAPIError):
        shed.apply(lambda tx: tx.execute(text(statement)))
    assert shed.dump() == before


def test_no_secret_is_noted(shed: Service) -> None:
    body = job_body(secrets=[{"name": "S", "value": "marked-secret-value"}])
    shed.send("PUT", JOB, body)
    shed.send("PUT", f"{JOB}?sig=marked-secret-value", body)
    assert "marked-secret-value" not in str(entries(shed))
