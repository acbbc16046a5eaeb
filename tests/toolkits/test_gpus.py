"""gpusPerProcess: which GPUs of its node each process sees. The GPUs are pretended: nothing here looks at a machine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.toolkits.gangs import gang
from trainshed.resources.toolsettings import GIVE_GPUS_THEMSELVES
from trainshed.toolkits import Gang, LaunchPlan, MpiFlavor, PlanError, plan
from trainshed.toolkits.gpus import PER_RANK, VARIABLES

SCRIPT = {"pythonScriptFilePath": "t.py"}


def with_gpus(*counts: int, devices: bool = True) -> Gang:
    """A gang whose nodes have so many pretended GPUs, called ``{node}{letter}``."""
    made = gang(len(counts), mpi=MpiFlavor.MPICH)
    return replace(
        made,
        hosts=tuple(
            replace(host, gpus=count, devices=tuple(f"{n}{chr(97 + i)}" for i in range(count)) if devices else ())
            for n, (host, count) in enumerate(zip(made.hosts, counts, strict=True))
        ),
    )


def seen(made: LaunchPlan) -> list[tuple[str, int, str | None]]:
    return [(p.role, p.index, p.environment.get("CUDA_VISIBLE_DEVICES")) for p in made.processes]


@pytest.mark.parametrize(
    ("settings", "each", "gpus", "expected"),
    [
        (
            {"pyTorchSettings": {**SCRIPT, "processCount": 4}},
            1,
            (2, 2),
            [("rank", 0, "0a"), ("rank", 1, "0b"), ("rank", 2, "1a"), ("rank", 3, "1b")],
        ),
        ({"pyTorchSettings": {**SCRIPT, "processCount": 2}}, 2, (2, 4), [("rank", 0, "0a,0b"), ("rank", 1, "1a,1b")]),
        # Three processes on nodes of different sizes: the first node has the one that is left over.
        (
            {"pyTorchSettings": {**SCRIPT, "processCount": 3}},
            2,
            (4, 2),
            [("rank", 0, "0a,0b"), ("rank", 1, "0c,0d"), ("rank", 2, "1a,1b")],
        ),
        # Parameter servers see none; the workers beside them their own.
        (
            {"tensorFlowSettings": {**SCRIPT, "workerCount": 4, "parameterServerCount": 1}},
            1,
            (2, 2),
            [("ps", 0, ""), ("master", 0, "0a"), ("worker", 1, "1a"), ("worker", 2, "0b"), ("worker", 3, "1b")],
        ),
        ({"caffe2Settings": SCRIPT}, 1, (2, 2), [("shard", 0, "0a"), ("shard", 1, "1a")]),
        ({"customToolkitSettings": {"commandLine": "true"}}, 1, (2, 2), [("master", 0, "0a")]),
        # A rank for each part of a node's GPUs.
        ({"jaxSettings": SCRIPT}, 1, (2, 1), [("rank", 0, "0a"), ("rank", 1, "0b"), ("rank", 2, "1a")]),
        ({"accelerateSettings": SCRIPT}, 2, (4, 3), [("rank", 0, "0a,0b"), ("rank", 1, "0c,0d"), ("rank", 2, "1a,1b")]),
        (
            {"accelerateSettings": {**SCRIPT, "processCount": 2}},
            2,
            (4, 4),
            [("rank", 0, "0a,0b"), ("rank", 1, "1a,1b")],
        ),
    ],
)
def test_processes_of_the_service(
    settings: dict[str, Any], each: int, gpus: tuple[int, ...], expected: list[tuple[str, int, str]]
) -> None:
    made = plan({**settings, "gpusPerProcess": each}, with_gpus(*gpus))
    assert seen(made) == expected
    for process in made.processes:
        assert {process.environment[name] for name in VARIABLES} == {process.environment["CUDA_VISIBLE_DEVICES"]}


def test_by_default_all_see_all() -> None:
    made = plan({"pyTorchSettings": {**SCRIPT, "processCount": 4}}, with_gpus(2, 2))
    assert {device for _, _, device in seen(made)} == {None}


def test_without_names_gpus_are_numbered_and_rocm_variables_left_alone() -> None:
    made = plan({"pyTorchSettings": {**SCRIPT, "processCount": 2}, "gpusPerProcess": 2}, with_gpus(4, devices=False))
    assert [p.environment["CUDA_VISIBLE_DEVICES"] for p in made.processes] == ["0,1", "2,3"]
    assert not any(name in p.environment for p in made.processes for name in VARIABLES[1:])


@pytest.mark.parametrize(
    "settings",
    [
        {"horovodSettings": SCRIPT},
        {"customMpiSettings": {"commandLine": "true"}},
        {"cntkSettings": {**SCRIPT, "languageType": "Python"}},
        {"caffeSettings": SCRIPT},
        {"chainerSettings": SCRIPT},
        {"pyTorchSettings": {**SCRIPT, "communicationBackend": "MPI"}},
    ],
)
def test_under_mpi_the_rank_wrapper_is_told(settings: dict[str, Any]) -> None:
    made = plan({**settings, "gpusPerProcess": 2}, with_gpus(2, 2))
    assert made.environment[PER_RANK] == "2"
    assert seen(made) == [("master", 0, None)]


@pytest.mark.parametrize(
    ("settings", "slots"), [({}, (2, 1)), ({"processCount": 2, "rendezvousBackend": "static"}, (1, 1))]
)
def test_under_torchrun_too(settings: dict[str, Any], slots: tuple[int, ...]) -> None:
    made = plan({"torchrunSettings": {**SCRIPT, **settings}, "gpusPerProcess": 2}, with_gpus(4, 3))
    assert (made.environment[PER_RANK], made.slots) == ("2", slots)
    # The agents themselves see all of their node.
    assert seen(made) == [("agent", 0, None), ("agent", 1, None)]


@pytest.mark.parametrize("each", [1, 2])
def test_jax_is_told_that_all_it_sees_is_its_own(each: int) -> None:
    made = plan({"jaxSettings": SCRIPT, "gpusPerProcess": each}, with_gpus(2, 2))
    assert made.environment["JAX_LOCAL_DEVICE_IDS"] == ("0" if each == 1 else "0,1")
    assert "JAX_LOCAL_DEVICE_IDS" not in plan({"jaxSettings": SCRIPT}, with_gpus(2, 2)).environment


@pytest.mark.parametrize("member", GIVE_GPUS_THEMSELVES)
def test_those_that_hand_out_gpus_themselves(member: str) -> None:
    with pytest.raises(PlanError, match=f"gpusPerProcess does not go with {member}: .* Leave it out"):
        plan({member: SCRIPT, "gpusPerProcess": 1}, with_gpus(2, 2))


@pytest.mark.parametrize(
    ("count", "each", "gpus", "told"),
    [
        (4, 2, (2, 2), "gpusPerProcess is 2, and node node-0 runs 2 processes: that takes 4 GPUs, and it has 2"),
        (2, 1, (1, 0), "node node-1 runs 1 processes: that takes 1 GPUs, and it has 0"),
    ],
)
def test_too_few_gpus(count: int, each: int, gpus: tuple[int, ...], told: str) -> None:
    with pytest.raises(PlanError) as refused:
        plan({"pyTorchSettings": {**SCRIPT, "processCount": count}, "gpusPerProcess": each}, with_gpus(*gpus))
    assert told in str(refused.value)
    assert "leave gpusPerProcess out" in str(refused.value)
