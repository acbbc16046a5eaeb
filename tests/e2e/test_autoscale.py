"""Auto-scale and failing nodes on the real engine: 0 to 4 nodes and back, setups that fail, a machine that is full."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.live_service import LiveService, custom
from tests.support.services import running
from trainshed.client.models import Cluster

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

NODES = 4
ACCOUNT = {"adminUserName": "tester", "adminUserPassword": "only-for-tests-1"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    """A service on a machine that holds four nodes of one core, with short pauses."""
    home = tmp_path_factory.mktemp("autoscale") / "home"
    room = {"TRAINSHED_CPU_OVERSUBSCRIPTION": str(NODES / (os.cpu_count() or 1))}
    with running(home, arguments=("--node-retry-seconds", "1"), more=room) as live:
        live.client.workspaces.create("default", location="local")
        live.client.experiments.create("default")
        yield live


def make(service: LiveService, name: str, scale: Mapping[str, Any], **more: Any) -> str:
    service.client.clusters.create(
        name, {"vmSize": "STANDARD_D1", "scaleSettings": scale, "userAccountSettings": ACCOUNT, **more}
    )
    return str(service.client.clusters.get(name).id)


def codes(cluster: Cluster) -> list[str]:
    return [error.code for error in cluster.errors]


def remove(service: LiveService, name: str) -> None:
    service.client.clusters.delete(name)


def test_from_no_node_to_four_under_load_and_back_without_touching_a_job(service: LiveService) -> None:
    client = service.client
    scale = {"autoScale": {"minimumNodeCount": 0, "maximumNodeCount": NODES, "idleTimeBeforeScaleDown": "PT1S"}}
    cluster = make(service, "auto", scale)
    # The long one keeps its node while the others' are taken away.
    client.jobs.create("long", custom("sleep 8", cluster))
    for number in range(3):
        client.jobs.create(f"short-{number}", custom("sleep 0.5", cluster, nodes=1 + number))
    service.wait_for(lambda: client.clusters.get("auto").node_count == NODES, "four nodes")
    service.wait_for(
        lambda: (
            client.clusters.get("auto").node_count == client.clusters.get("auto").nodes_in("running") == 1
            and not client.jobs.get("long").final
        ),
        "one node, with the long job",
    )
    for name in ("long", *(f"short-{number}" for number in range(3))):
        job = client.jobs.wait(name, interval=0.1, timeout=60)
        assert (job.execution_state.value, job.attempt) == ("succeeded", 1)
    service.wait_for(lambda: client.clusters.get("auto").node_count == 0, "no nodes")
    assert codes(client.clusters.get("auto")) == []
    remove(service, "auto")


def test_nodes_that_fail_their_setup_are_told_of_and_tried_again_until_they_come(
    service: LiveService, tmp_path: Path
) -> None:
    client, mended = service.client, tmp_path / "mended"
    task = {"commandLine": f"test -e {mended}", "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/setup"}
    scale = {"autoScale": {"minimumNodeCount": 0, "maximumNodeCount": 1}}
    cluster = make(service, "broken", scale, nodeSetup={"setupTask": task})
    client.jobs.create("waits", custom("true", cluster))
    wanted = ["SetupTaskFailed", "NodeReplacementScheduled"]
    service.wait_for(lambda: codes(client.clusters.get("broken")) == wanted, "the reason")
    waiting = client.jobs.get("waits").why_waiting
    assert waiting is not None and "setup task" in waiting.message

    def failures() -> list[datetime]:
        shown = [event.json for event in client.clusters.events("broken")]
        return [datetime.fromisoformat(event["time"]) for event in shown if event["event"] == "setup-failed"]

    service.wait_for(lambda: len(failures()) >= 3, "the third try")
    first, second, third = failures()[:3]
    assert ((second - first).total_seconds() >= 1, (third - second).total_seconds() >= 2) == (True, True)
    mended.touch()
    job = client.jobs.wait("waits", interval=0.1, timeout=60)
    assert (job.execution_state.value, job.attempt) == ("succeeded", 1)
    service.wait_for(lambda: not client.clusters.get("broken").errors, "no errors")
    remove(service, "broken")


def test_a_machine_without_room_is_told_of_and_asked_again(service: LiveService) -> None:
    client = service.client
    make(service, "first", {"manual": {"targetNodeCount": NODES}})
    service.wait_for(lambda: client.clusters.get("first").nodes_in("idle") == NODES, "idle nodes")
    make(service, "second", {"manual": {"targetNodeCount": 1}})
    wanted = ["AllocationFailed", "NodeReplacementScheduled"]
    found = service.wait_for(
        lambda: (shown := client.clusters.get("second")) and codes(shown) == wanted and shown, "the reason"
    )
    assert found.node_count == 0
    client.clusters.resize("first", 0)
    service.wait_for(lambda: client.clusters.get("second").nodes_in("idle") == 1, "the node")
    service.wait_for(lambda: not client.clusters.get("second").errors, "no errors")
    remove(service, "second")
    remove(service, "first")


def test_an_evicted_node_s_job_runs_again_elsewhere_and_is_not_counted(service: LiveService) -> None:
    client = service.client
    cluster = make(service, "spot", {"manual": {"targetNodeCount": 1}}, vmPriority="lowpriority")
    command = "if [ $TRAINSHED_ATTEMPT = 1 ]; then touch $AZ_BATCHAI_MOUNT_ROOT/started; sleep 1000; fi"
    client.jobs.create("again", custom(command, cluster))
    service.wait_for(lambda: list(service.home.glob("**/started")), "the first attempt's command")
    [node] = [node.json["id"] for node in client.clusters.nodes("spot")]
    client.clusters.evict_node("spot", node)
    job = client.jobs.wait("again", interval=0.1, timeout=60)
    assert (job.execution_state.value, job.attempt) == ("succeeded", 2)
    first, second = [attempt.json for attempt in client.jobs.attempts("again")]
    assert (first["state"], first["reason"]["code"], first["nodes"]) == ("lost", "NodeEvicted", [node])
    assert second["nodes"] != [node]
    requeued = [event.json for event in client.jobs.events("again") if event.json["event"] == "requeued"]
    assert [event["reason"]["code"] for event in requeued] == ["NodeEvicted"]
    remove(service, "spot")
