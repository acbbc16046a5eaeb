"""Scheduling rules of a workspace, and the queue of a cluster."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.callers import make_caller
from tests.api.service import CLUSTER, JOB, NEW, OLD, WS, Service, cluster_body, job_body

RULES = f"{WS}/schedulingRules"
LIMIT = {"scope": "user", "measure": "nodes", "amount": 4}


def put(service: Service, properties: Any) -> Any:
    return service.send("PUT", RULES, {"properties": properties}, version=NEW)


def test_rules_are_replaced_and_told(shed: Service) -> None:
    before = shed.send("GET", RULES, version=NEW).json()
    assert before == {"properties": {"standing": []}}
    answer = put(shed, {"fairShare": {"halfLife": "1.00:00:00"}, "limits": [LIMIT]})
    assert answer.status_code == 200
    told = shed.send("GET", RULES, version=NEW).json()["properties"]
    assert told["fairShare"] == {"halfLife": "P1D", "users": True, "experiments": True}
    assert told["limits"] == [{**LIMIT, "hard": True}]
    assert put(shed, told).status_code == 200, "what was read can be sent back"
    assert put(shed, {}).json() == {"properties": {"standing": []}}
    assert shed.controller.wakes > 0


@pytest.mark.parametrize(
    ("rules", "code", "says"),
    [
        ({"limits": [{**LIMIT, "scope": "planet"}]}, "InvalidPropertyValue", "scope"),
        ({"limits": [{**LIMIT, "amount": -1}]}, "InvalidPropertyValue", "amount"),
        ({"limits": [{**LIMIT, "amount": 1.5}]}, "InvalidPropertyValue", "whole number"),
        ({"limits": [{**LIMIT, "period": "P1D"}]}, "InvalidPropertyValue", "leave period out"),
        ({"limits": [{**LIMIT, "hard": False}]}, "InvalidPropertyValue", "only budgets"),
        ({"limits": [{"scope": "workspace", "name": "x", "measure": "nodes", "amount": 1}]}, None, "has no name"),
        ({"limits": [{**LIMIT, "name": "nobody@example.org"}]}, "UserNotFound", "trainshed user list"),
        ({"fairShare": {"weights": {"nobody@example.org": 2}}}, "UserNotFound", "nobody@example.org"),
        ({"fairShare": {"halfLife": "soon"}}, "InvalidPropertyValue", "halfLife"),
        ({"fairshare": {}}, None, "fairshare"),
    ],
)
def test_wrong_rules_change_nothing(shed: Service, rules: Any, code: str | None, says: str) -> None:
    assert put(shed, {"limits": [LIMIT]}).status_code == 200
    before = shed.dump()
    answer = put(shed, rules)
    assert answer.status_code == 400
    if code is not None:
        assert answer.json()["error"]["code"] == code, answer.text
    assert says in answer.text
    assert shed.dump() == before


def test_a_limit_names_a_user(shed: Service) -> None:
    make_caller(shed, "ann@example.org")
    limit = {**LIMIT, "name": "ann@example.org"}
    assert put(shed, {"limits": [limit]}).status_code == 200


def test_the_original_version_has_no_rules(shed: Service) -> None:
    assert shed.send("GET", RULES, version=OLD).status_code == 400
    assert put(shed, {}).status_code == 200
    assert shed.send("GET", f"{WS}x/schedulingRules", version=NEW).json()["error"]["code"] == "WorkspaceNotFound"


def test_the_queue_in_its_order(shed: Service) -> None:
    shed.make_job()
    shed.send("PUT", f"{JOB}2", job_body(schedulingPriority="high"), version=NEW)
    shed.controller.provision(count=0)
    rows = shed.send("GET", f"{CLUSTER}/queue", version=NEW).json()["value"]
    assert [(row["position"], row["job"], row["priority"]) for row in rows] == [(1, "j2", "high"), (2, "j", "normal")]
    assert rows[0]["experiment"] == "exp"
    assert rows[0]["whyWaiting"]["code"]
    assert len(shed.send("GET", f"{CLUSTER}/queue", version=NEW, maxresults=1).json()["value"]) == 1
    wrong = shed.send("GET", f"{CLUSTER}/queue", version=NEW, maxresults="no")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, "InvalidPropertyValue")


def test_backfill_is_a_property_of_the_newer_version(shed: Service) -> None:
    assert shed.send("PUT", f"{CLUSTER}9", cluster_body(backfill=False), version=NEW).status_code == 202
    assert shed.send("GET", f"{CLUSTER}9", version=NEW).json()["properties"]["backfill"] is False
    assert "backfill" not in shed.send("GET", f"{CLUSTER}9", version=OLD).json()["properties"]
