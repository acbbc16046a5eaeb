"""Lifecycles as clients see them (rest-contract sections 3, 7 and 8), with the real controller behind the API."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.api.service import CLUSTER, EXPERIMENT, JOB, WS, cluster_body, job_body
from tests.specification.wire import Answer, Request
from tests.specification.world import World

pytestmark = pytest.mark.slow

TERMINATED = [{"code": "JobTerminated", "message": "The specified job has been terminated by the user"}]


def ask(world: World, method: str, path: str, body: Any = None) -> Answer:
    content = b"" if body is None else json.dumps(body).encode()
    headers = (world.authorization(), (b"Content-Type", b"application/json"))
    return world.send(Request(method, f"{path}?api-version=2018-05-01".encode(), headers, content))


def properties(world: World, path: str = JOB) -> dict[str, Any]:
    found: dict[str, Any] = ask(world, "GET", path).json()["properties"]
    return found


def submitted(world: World, nodes: int, **cluster: Any) -> None:
    """Workspace, experiment, a cluster of so many nodes, and job ``j`` on it."""
    assert ask(world, "PUT", WS, {"location": "local"}).status == 200
    assert ask(world, "PUT", EXPERIMENT).status == 200
    scale = {"manual": {"targetNodeCount": nodes}}
    assert ask(world, "PUT", CLUSTER, cluster_body(scaleSettings=scale, **cluster)).status == 202
    world.settle()
    assert ask(world, "PUT", JOB, job_body()).status == 202
    if nodes:
        world.until(lambda: properties(world)["executionState"] == "running")


def test_a_queued_job_is_terminated(world: World) -> None:
    submitted(world, nodes=0)
    assert "executionInfo" not in properties(world)
    assert ask(world, "POST", f"{JOB}/terminate").status == 202
    world.settle()
    job = properties(world)
    assert (job["executionState"], job["provisioningState"]) == ("failed", "succeeded")
    info = job["executionInfo"]
    assert set(info) == {"startTime", "endTime", "errors"} and info["errors"] == TERMINATED
    assert job["executionStateTransitionTime"] == info["endTime"]


def test_a_running_job_is_terminated(world: World) -> None:
    submitted(world, nodes=1)
    before = properties(world)
    assert set(before["executionInfo"]) == {"startTime"}
    assert before["executionInfo"]["startTime"] == before["executionStateTransitionTime"]
    assert ask(world, "POST", f"{JOB}/terminate").status == 202
    world.settle()
    info = properties(world)["executionInfo"]
    assert set(info) == {"startTime", "endTime", "errors"} and info["errors"] == TERMINATED
    assert info["startTime"] == before["executionInfo"]["startTime"]


def test_a_running_job_is_deleted(world: World) -> None:
    submitted(world, nodes=1)
    answer = ask(world, "DELETE", JOB)
    assert answer.status == 202
    world.settle()
    assert ask(world, "GET", JOB).status == 404
    assert world.engine.live() == []
    assert ask(world, "GET", f"{EXPERIMENT}/jobs").json() == {"value": []}
    assert ask(world, "DELETE", JOB).status == 204


@pytest.mark.parametrize(("priority", "suffix"), [("dedicated", "z"), ("lowpriority", "z-p")])
def test_ids_of_nodes_tell_their_priority(world: World, priority: str, suffix: str) -> None:
    submitted(world, nodes=1, vmPriority=priority)
    (node_id,) = world.engine.nodes
    assert node_id.startswith("tvm-") and node_id.endswith(suffix)


def test_a_cluster_is_deleted_and_its_finished_jobs_stay(world: World) -> None:
    submitted(world, nodes=1)
    ask(world, "POST", f"{JOB}/terminate")
    world.settle()
    ended = properties(world)
    assert ask(world, "DELETE", CLUSTER).status == 202
    world.settle()
    assert ask(world, "GET", CLUSTER).status == 404
    assert properties(world) == ended
    assert [entry["name"] for entry in ask(world, "GET", f"{EXPERIMENT}/jobs").json()["value"]] == ["j"]


def test_a_workspace_takes_everything_in_it_along(world: World) -> None:
    submitted(world, nodes=1)
    assert ask(world, "DELETE", WS).status == 202
    world.settle()
    assert [ask(world, "GET", path).status for path in (WS, CLUSTER, EXPERIMENT, JOB)] == [404] * 4
    assert (world.engine.live(), world.engine.nodes) == ([], {})
