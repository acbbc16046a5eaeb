"""Toolkits that start the script once per rank: JAX, DeepSpeed, Accelerate, Lightning (frameworks 5b and 7)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.toolkits.gangs import gang
from trainshed.toolkits import Gang, PlanError, Process, plan
from trainshed.toolkits.today import rendezvous_port

PYTHON = '"$(command -v python || command -v python3 || echo python)" "train.py" --lr 1'
PORT = str(rendezvous_port("attempt-1"))
#: Nodes, processCount, and (node, local rank, ranks of the node) of each rank.
SHAPES = [
    (1, None, [(0, 0, 1)]),
    (1, 3, [(0, 0, 3), (0, 1, 3), (0, 2, 3)]),
    (2, None, [(0, 0, 1), (1, 0, 1)]),
    (4, 8, [(node, local, 2) for node in range(4) for local in range(2)]),
]
#: What each toolkit adds to today's variables: for all ranks of so many nodes and ranks, and for one rank.
TOOLKITS = {
    "deepSpeedSettings": (lambda nodes, ranks: {}, lambda rank, local: {}),
    "accelerateSettings": (lambda nodes, ranks: {"ACCELERATE_USE_CPU": "true"}, lambda rank, local: {}),
    "lightningSettings": (lambda nodes, ranks: {}, lambda rank, local: {}),
    "jaxSettings": (
        lambda nodes, ranks: {
            "JAX_COORDINATOR_ADDRESS": f"10.0.0.4:{PORT}",
            "JAX_NUM_PROCESSES": str(ranks),
            "SLURM_JOB_ID": "3984915915",
            "SLURM_STEP_NODELIST": ",".join(f"node-{node}" for node in range(nodes)),
            "SLURM_STEP_NUM_NODES": str(nodes),
            "SLURM_NTASKS": str(ranks),
        },
        lambda rank, local: {"JAX_PROCESS_ID": str(rank), "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(local)},
    ),
}


def _job(member: str, **settings: Any) -> dict[str, Any]:
    return {member: {"pythonScriptFilePath": "train.py", "commandLineArgs": "--lr 1", **settings}}


def _with_gpus(*gpus: int) -> Gang:
    made = gang(len(gpus))
    return replace(made, hosts=tuple(replace(host, gpus=n) for host, n in zip(made.hosts, gpus, strict=True)))


@pytest.mark.parametrize(("nodes", "count", "ranks"), SHAPES)
@pytest.mark.parametrize("member", TOOLKITS)
def test_the_whole_plan(member: str, nodes: int, count: int | None, ranks: list[tuple[int, int, int]]) -> None:
    of_all, of_one = TOOLKITS[member]
    made = plan(_job(member, **({} if count is None else {"processCount": count})), gang(nodes))
    assert made.processes == tuple(
        Process(
            host=node,
            role="rank",
            index=rank,
            command_line=PYTHON,
            environment={
                "RANK": str(rank),
                "LOCAL_RANK": str(local),
                "LOCAL_WORLD_SIZE": str(size),
                "NODE_RANK": str(node),
                **of_one(rank, local),
            },
            stdout=f"stdout-{rank}.txt",
            stderr=f"stderr-{rank}.txt",
        )
        for rank, (node, local, size) in enumerate(ranks)
    )
    today = {"MASTER_ADDR": "10.0.0.4", "MASTER_PORT": PORT, "WORLD_SIZE": str(len(ranks))}
    assert made.environment == {**today, **of_all(nodes, len(ranks))}
    assert made.slots == tuple(sum(1 for node, _, _ in ranks if node == host) for host in range(nodes))
    assert made.mpi_ranks == 0


@pytest.mark.parametrize("member", [*TOOLKITS, "torchrunSettings"])
def test_a_rank_for_each_gpu(member: str) -> None:
    made = plan(_job(member), _with_gpus(4, 4))
    assert made.slots == (4, 4)
    assert made.environment["WORLD_SIZE"] == "8"
    assert "ACCELERATE_USE_CPU" not in made.environment


@pytest.mark.parametrize("member", [*TOOLKITS, "torchrunSettings"])
def test_every_node_has_a_rank(member: str) -> None:
    with pytest.raises(PlanError, match=rf"{member}.processCount is 1: the job has 2 nodes"):
        plan(_job(member, processCount=1), gang(2))


@pytest.mark.parametrize("member", [*TOOLKITS, "torchrunSettings", "raySettings"])
def test_a_script_is_needed(member: str) -> None:
    with pytest.raises(PlanError, match="pythonScriptFilePath is missing"):
        plan({member: {}}, gang(2))


def test_lightning_needs_as_many_ranks_on_each_node() -> None:
    with pytest.raises(PlanError, match=r"would be 2, 1\. Set processCount to a multiple of nodeCount \(2\)"):
        plan(_job("lightningSettings", processCount=3), gang(2))
    with pytest.raises(PlanError, match=r"would be 2, 4"):
        plan(_job("lightningSettings"), _with_gpus(2, 4))
    assert plan(_job("deepSpeedSettings", processCount=3), gang(2)).slots == (2, 1)


@pytest.mark.parametrize("member", [*TOOLKITS, "torchrunSettings", "raySettings"])
def test_the_interface_is_named_when_it_must_be(member: str) -> None:
    environment = plan(_job(member), gang(interface="lo")).environment
    assert (environment["GLOO_SOCKET_IFNAME"], environment["NCCL_SOCKET_IFNAME"]) == ("lo", "lo")


@pytest.mark.parametrize("member", [*TOOLKITS, "torchrunSettings", "raySettings"])
def test_the_users_interpreter_is_taken(member: str) -> None:
    made = plan(_job(member, pythonInterpreterPath="$HOME/my env/python"), gang(2))
    assert all('"$HOME/my env/python" ' in process.command_line for process in made.processes)
    assert not any("command -v python" in process.command_line for process in made.processes)
