"""The example configurations are what Ray takes them for."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.engines.ray.cluster import why_not

EXAMPLES = Path(__file__).parents[3] / "examples" / "ray"
RESOURCE = "gpu-box"


@pytest.fixture(autouse=True)
def _ray() -> None:
    if why := why_not():
        pytest.skip(why)


def read(name: str) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((EXAMPLES / name).read_text())
    return config


@pytest.mark.parametrize("cloud", ["aws", "azure", "gcp"])
def test_a_cloud_s_is_valid_by_ray_s_schema(cloud: str) -> None:
    from ray.autoscaler._private.util import fillout_defaults, validate_config

    config = fillout_defaults(read(f"{cloud}.yaml"))
    validate_config(config)
    kinds = config["available_node_types"]
    head = kinds[config["head_node_type"]]
    assert head["resources"]["CPU"] == 0, "no jobs on the head"
    assert kinds["gpu"]["resources"][RESOURCE] == 1, "one a machine, so that the autoscaler counts machines"
    started = "".join((*config["head_start_ray_commands"], *config["worker_start_ray_commands"]))
    assert "default" not in config["cluster_name"] and "nightly" not in started
    assert "~/.ray/auth_token" in config["file_mounts"]
    assert any("RAY_AUTH_MODE=token" in command for command in config["setup_commands"])


def test_what_ray_makes_of_the_kubernetes_cluster_is_valid_too() -> None:
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
    from ray.autoscaler._private.util import validate_config

    cluster = read("kuberay.yaml")
    cluster["metadata"]["namespace"] = "default"
    config = _derive_autoscaling_config_from_ray_cr(cluster)
    validate_config(config)
    kinds = config["available_node_types"]
    assert kinds["headgroup"]["resources"]["CPU"] == 0
    worker = kinds["gpu"]["resources"]
    assert (worker["CPU"], worker["GPU"], worker[RESOURCE]) == (8, 1, 1)
    assert cluster["spec"]["authOptions"]["mode"] == "token"


def test_the_script_for_three_boxes(tmp_path: Path) -> None:
    """With doubles of ray, ssh and trainshed that write down how they were called."""
    for program in ("ray", "ssh", "trainshed"):
        path = tmp_path / program
        path.write_text(f'#!/bin/bash\necho "{program} $* mode=$RAY_AUTH_MODE" >> {tmp_path}/called\n')
        path.chmod(0o755)
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("a token")
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    environment.pop("RAY_AUTH_MODE", None)
    subprocess.run(
        [EXAMPLES / "three-boxes.sh", "10.0.0.4", "box1", "box2"], env=environment, check=True, capture_output=True
    )
    called = (tmp_path / "called").read_text().splitlines()
    assert called[0].startswith("ray start --head --node-ip-address=10.0.0.4") and called[0].endswith("mode=token")
    for box in ("box1", "box2"):
        (joins,) = (line for line in called if line.startswith(f"ssh {box} test -w"))
        assert "RAY_AUTH_MODE=token ray start --address=10.0.0.4:6379" in joins and '{"box": 1}' in joins
    assert "trainshed engine add ray boxes --address 10.0.0.4:6379 --directory /shared/trainshed" in called[-1]
