"""A whole service with a Ray engine beside its own: jobs, losses and restarts, as users see them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.lab import living, mark
from tests.engines.ray.cluster import RayNodes
from tests.support.live_service import LiveService, custom
from trainshed.cli.main import run

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.timeout(400)]

#: Seconds that anything may take: Ray starts an interpreter for every node.
PATIENCE = 90.0


@pytest.fixture
def service(ray_nodes: RayNodes, tmp_path: Path) -> Iterator[LiveService]:
    """A service with the engine ``boxes``."""
    ray_nodes.wait_for(len(ray_nodes.nodes))
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    given = {"address": ray_nodes.address, "directory": str(tmp_path / "shared"), "token_file": ray_nodes.token_file}
    options = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    assert run(["engine", "add", "ray", "boxes", *options, "--home", str(home)]) == 0
    live = LiveService(home, "--node-retry-seconds", "0.5")
    try:
        yield live.start()
    finally:
        live.stop()


def test_a_job_of_two_nodes_survives_the_death_of_a_raylet_and_of_the_service(
    service: LiveService, ray_nodes: RayNodes
) -> None:
    client = service.client
    client.workspaces.create("default", location="local")
    client.experiments.create("default")
    cluster = client.clusters.create(
        "c",
        {
            "vmSize": "STANDARD_D1",
            "engine": {"name": "boxes"},
            "scaleSettings": {"manual": {"targetNodeCount": 2}},
            "userAccountSettings": {"adminUserName": "tester", "adminUserPassword": "only-for-tests-1"},
        },
    )
    service.wait_for(lambda: client.clusters.get("c").nodes_in("idle") == 2, "idle nodes", PATIENCE)
    name, root = mark(), "$AZ_BATCHAI_MOUNT_ROOT"
    command = (
        f"echo $TRAINSHED_ATTEMPT >> {root}/attempts; (exec -a {name} sleep 1000) & "
        f"until [ -e {root}/go ]; do sleep 0.05; done; echo done by $TRAINSHED_ATTEMPT"
    )
    client.jobs.create("long", custom(command, str(cluster.id), nodes=2), wait=False)
    service.wait_for(lambda: living(name), "the first attempt", PATIENCE)
    (files,) = (service.home.parent / "shared" / "clusters").glob("*/mounts")

    ray_nodes.kill_raylet(_used_by_the_gang(ray_nodes, files))
    service.wait_for(lambda: (files / "attempts").read_text().split() == ["1", "2"], "the second attempt", PATIENCE)
    service.wait_for(lambda: len(living(name)) == 1, "one attempt alone", PATIENCE)

    service.kill()
    before = living(name)
    service.start()
    assert living(name) == before
    (files / "go").touch()
    job = service.client.jobs.wait("long", timeout=PATIENCE)
    assert job.execution_state.value == "succeeded"
    assert (files / "attempts").read_text().split() == ["1", "2"]
    assert living(name) == []
    attempts = [attempt.json for attempt in service.client.jobs.attempts("long")]
    assert [attempt["state"] for attempt in attempts] == ["lost", "succeeded"]
    assert attempts[0]["reason"]["code"] == "NodeLost"


def _used_by_the_gang(ray_nodes: RayNodes, files: Path) -> str:
    """An address of a node that runs it, by the attempt's description."""
    (spec,) = (files.parents[2] / "attempts").glob("*/0/spec.json")
    text = spec.read_text()
    return next(address for address in ray_nodes.nodes if f'"{address}"' in text)
