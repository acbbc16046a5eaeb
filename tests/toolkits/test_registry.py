"""Which toolkit plans which job, and the toolkits that start processes themselves."""

from __future__ import annotations

import pytest

from tests.toolkits.gangs import gang
from trainshed.resources.toolsettings import TOOL_TYPES
from trainshed.toolkits import LaunchPlan, MpiFlavor, PlanError, Process, needs_mpi, plan, tool_type_of


def test_a_custom_job_runs_on_the_master_only() -> None:
    assert plan({"customToolkitSettings": {"commandLine": "echo $X | cat"}}, gang(3)) == LaunchPlan(
        processes=(Process(host=0, role="master", index=0, command_line="echo $X | cat"),), slots=(1, 1, 1)
    )


@pytest.mark.parametrize("settings", [{}, {"commandLine": ""}, {"commandLine": "  "}])
@pytest.mark.parametrize("member", ["customToolkitSettings", "customMpiSettings"])
def test_a_command_is_needed(member: str, settings: dict[str, str]) -> None:
    with pytest.raises(PlanError, match=f"{member}.commandLine is empty"):
        plan({member: settings}, gang(mpi=MpiFlavor.MPICH))


@pytest.mark.parametrize("properties", [{}, {"customToolkitSettings": {}, "customMpiSettings": {}}])
def test_exactly_one_toolkit(properties: dict[str, object]) -> None:
    with pytest.raises(PlanError, match="exactly one"):
        plan(properties, gang())
    with pytest.raises(ValueError, match="exactly one"):
        tool_type_of(properties)


def test_a_gang_has_hosts() -> None:
    with pytest.raises(PlanError, match="at least one host"):
        plan({"customToolkitSettings": {"commandLine": "true"}}, gang(0))


@pytest.mark.parametrize(
    ("properties", "needed"),
    [
        ({"customToolkitSettings": {}}, False),
        ({"customMpiSettings": {}}, True),
        ({"cntkSettings": {}}, True),
        ({"caffeSettings": {}}, True),
        ({"chainerSettings": {}}, True),
        ({"horovodSettings": {}}, True),
        ({"caffe2Settings": {}}, False),
        ({"tensorFlowSettings": {}}, False),
        ({"torchrunSettings": {}}, False),
        ({"jaxSettings": {}}, False),
        ({"deepSpeedSettings": {}}, False),
        ({"raySettings": {}}, False),
        ({"pyTorchSettings": {}}, False),
        ({"pyTorchSettings": {"communicationBackend": "Gloo"}}, False),
        ({"pyTorchSettings": {"communicationBackend": "mpi"}}, True),
    ],
)
def test_mpi_is_looked_for_only_where_it_is_needed(properties: dict[str, dict[str, str]], needed: bool) -> None:
    assert needs_mpi(properties) is needed


def test_tool_types() -> None:
    types = [tool_type_of({member: {}}) for member in TOOL_TYPES]
    assert types == [
        "cntk",
        "pytorch",
        "tensorflow",
        "caffe",
        "caffe2",
        "chainer",
        "custom",
        "custommpi",
        "horovod",
        "torchrun",
        "jax",
        "deepspeed",
        "accelerate",
        "lightning",
        "ray",
    ]
