"""The runners' specs that the daemon makes of a gang."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from tests.engines.lab import cluster_spec, gang_spec
from trainshed.engines.local.layout import Layout
from trainshed.engines.local.leftovers import MARK_VARIABLE
from trainshed.engines.local.record import LocalNode
from trainshed.engines.local.wire import runner_specs
from trainshed.runner.spec import RunnerSpec

CLUSTER = cluster_spec(uid="u")
LAYOUT = Layout(Path("/home/of/trainshed"))


def node(name: str, *gpus: str) -> LocalNode:
    return LocalNode(name, "u", 0, f"host-{name}", f"127.1.1.{name[-1]}", 2, 100, gpus)


def parts() -> list[RunnerSpec]:
    gang = gang_spec("true", ("n4", "n5"), CLUSTER, attempt_id="a")
    told = {**asdict(gang), "code_manifest": {"x.py": {"sha256": "0", "mode": 0o644}}}
    return list(map(RunnerSpec.from_dict, runner_specs(told, [node("n4", "GPU-a", "GPU-b"), node("n5")], LAYOUT)))


def test_every_node_knows_all_hosts_in_order() -> None:
    first, second = parts()
    assert (first.node_index, second.node_index) == (0, 1)
    assert first.hosts == second.hosts
    assert [(host.node_id, host.name, host.address, host.cpus, host.gpus) for host in first.hosts] == [
        ("n4", "host-n4", "127.1.1.4", 2, 2),
        ("n5", "host-n5", "127.1.1.5", 2, 0),
    ]
    assert first.gpu_devices == ("GPU-a,GPU-b", "")


def test_each_has_its_own_directories_and_the_masters_shared_one() -> None:
    first, second = parts()
    assert first.directories.job_temp_root == "/home/of/trainshed/nodes/n4/jobs"
    assert second.directories.job_temp_root == "/home/of/trainshed/nodes/n5/jobs"
    assert first.directories.shared_job_temp == second.directories.shared_job_temp
    assert first.directories.shared_job_temp.startswith("/home/of/trainshed/nodes/n4/jobs/")
    assert first.directories.mount_root == second.directories.mount_root == "/home/of/trainshed/clusters/u/mounts"
    assert first.directories.state != second.directories.state


def test_all_carry_the_mark_and_no_token() -> None:
    for part in parts():
        assert part.extra_environment == {MARK_VARIABLE: LAYOUT.mark}
        assert part.token == ""
        assert part.code_manifest == {"x.py": {"sha256": "0", "mode": 0o644}}
