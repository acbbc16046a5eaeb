"""Ray's autoscaler makes the nodes that clusters want, and ends them when they are given back: 0, 3, 0."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.conformance import mounts
from tests.engines.lab import Lab, cluster_spec, eventually
from tests.engines.ray.cluster import RayNodes, why_not
from tests.engines.ray.fixtures import run_on_ray
from trainshed.engines.protocol import GangResult, NodeCondition, NodeSpec

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

MOST = 4


@pytest.fixture
def cloud() -> Iterator[RayNodes]:
    """A head with Ray's autoscaler, whose cloud is a double."""
    if why := why_not():
        pytest.skip(why)
    nodes = RayNodes()
    configuration = {
        "cluster_name": "cloud",
        "max_workers": MOST,
        "idle_timeout_minutes": 0.05,
        "upscaling_speed": 10,
        "provider": {
            "type": "external",
            "module": "tests.engines.ray.provider.LoopbackProvider",
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "gcs_address": nodes.address,
            "network": nodes.network,
        },
        "available_node_types": {
            "ray.head.default": {"resources": {}, "node_config": {}, "max_workers": 0},
            "box": {
                "resources": {"CPU": 2, "box": 1},
                "node_config": {},
                "min_workers": 0,
                "max_workers": MOST,
            },
        },
        "head_node_type": "ray.head.default",
        # The autoscaler wants them to be there, also where nobody logs in to machines.
        **{key: {} for key in ("auth", "docker", "file_mounts")},
        **{key: [] for key in ("cluster_synced_files", "initialization_commands", "setup_commands")},
        **{key: [] for key in ("head_setup_commands", "worker_setup_commands")},
        **{key: [] for key in ("head_start_ray_commands", "worker_start_ray_commands")},
        "file_mounts_sync_continuously": False,
    }
    file = nodes.folder / "autoscaling.json"
    file.write_text(json.dumps(configuration))
    nodes.more_environment = {
        "RAY_FAKE_CLUSTER": "1",
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "PYTHONPATH": str(Path(__file__).parents[3]),
    }
    try:
        nodes.start_head(f"--autoscaling-config={file}")
        yield nodes
    finally:
        nodes.close()


def test_from_nothing_to_three_and_back(cloud: RayNodes, home: Path) -> None:
    async def body(lab: Lab) -> None:
        cluster = cluster_spec(options={"resource": "box"})
        assert cloud.raylets() == 1, "the head's own"
        wanted = tuple(NodeSpec(f"cloud-{index}", index) for index in range(3))
        await lab.engine.add_nodes(cluster, wanted)
        preparing = (await lab.engine.view()).nodes
        assert {node.condition for node in preparing} == {NodeCondition.PREPARING}
        assert all(node.reason is not None and "autoscaler" in node.reason.text for node in preparing)
        ready = [await lab.node(node.node_id) for node in wanted]
        assert len({node.address for node in ready}) == 3
        names = tuple(node.node_id for node in wanted)
        attempt = await lab.run("true", names, cluster, preparation="hostname >> $AZ_BATCHAI_MOUNT_ROOT/names")
        assert (await lab.end_of(attempt)).result is GangResult.SUCCEEDED
        assert len(set((mounts(lab, cluster) / "names").read_text().split())) == 3
        # One fewer: the machine of that one ends, and the others stay although they have nothing to do.
        await lab.engine.remove_nodes(names[2:])
        await eventually(lambda: cloud.raylets() == 3, "two machines")
        assert [node.condition for node in (await lab.engine.view()).nodes] == [NodeCondition.READY] * 2
        await lab.engine.remove_nodes(names)
        await eventually(lambda: cloud.raylets() == 1, "no machine")

    run_on_ray(cloud, home, body, autoscale=True)
