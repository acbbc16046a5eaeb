"""The launch preview: what the toolkits plan, and what each node's processes find in their environment."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from trainshed.toolkits import Gang, Host, MpiFlavor, plan
from trainshed.toolkits.preview import Preview, example_hosts, example_place, preview

PLACE = example_place("sub", "Group", "ws", "exp")
SCRIPT = {"pythonScriptFilePath": "t.py"}


def seen(settings: dict[str, Any], hosts: tuple[Host, ...], mpi: MpiFlavor | None = None, **more: Any) -> Preview:
    return preview({"stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/logs", **settings, **more}, hosts, PLACE, mpi)


def test_more_than_one_subnets_byte() -> None:
    hosts = example_hosts(300, "c", cpus=2, gpus=0)
    assert (hosts[0].address, hosts[251].address, hosts[252].address) == ("10.0.0.4", "10.0.0.255", "10.0.1.0")


def test_each_node_is_told_its_own_gpus() -> None:
    small, large = example_hosts(2, "c", cpus=2, gpus=0)
    made = seen({"caffe2Settings": SCRIPT}, (small, replace(large, gpus=2)))
    told = [(found["AZ_BATCHAI_NUM_GPUS"], found.get("CUDA_VISIBLE_DEVICES")) for found in made.environments]
    assert told == [("0", None), ("2", "0,1")]


def test_ranks_of_mpi_on_nodes_with_unlike_counts() -> None:
    hosts = example_hosts(2, "c", cpus=2, gpus=4)
    made = seen({"horovodSettings": {**SCRIPT, "processCount": 3}}, hosts, MpiFlavor.MPICH, gpusPerProcess=2)
    told = [(rank.rank, rank.host, rank.environment["CUDA_VISIBLE_DEVICES"]) for rank in made.ranks]
    assert told == [(0, 0, "0,1"), (1, 0, "2,3"), (2, 1, "0,1")]
    assert [found["NODE_RANK"] for found in made.environments] == ["0", "1"]
    assert (made.mpi, made.plan.mpi_ranks) == (MpiFlavor.MPICH, 3)


def test_a_single_process_needs_no_mpi_and_names_none() -> None:
    made = seen({"horovodSettings": SCRIPT}, example_hosts(1, "c", cpus=2, gpus=0))
    assert (made.mpi, made.ranks, len(made.plan.processes)) == (None, (), 1)


def test_it_is_the_toolkits_own_plan() -> None:
    hosts = example_hosts(2, "c", cpus=2, gpus=0)
    made = seen({"pyTorchSettings": SCRIPT}, hosts)
    again = Gang(hosts, PLACE.shared_job_temp, attempt_id="00000000-0000-0000-0000-000000000000")
    assert made.plan == plan({"pyTorchSettings": SCRIPT}, again)


@pytest.mark.parametrize("secret", ["hunter2", ""])
def test_secrets_are_masked_wherever_they_are_named(secret: str) -> None:
    made = seen(
        {"customToolkitSettings": {"commandLine": "true"}},
        example_hosts(1, "c", cpus=2, gpus=0),
        secrets=[{"name": "KEY", "value": secret}],
        environmentVariables=[{"name": "URL", "value": "x:$KEY"}],
    )
    (found,) = made.environments
    assert (found["KEY"], found["URL"]) == ("***", "x:***")
