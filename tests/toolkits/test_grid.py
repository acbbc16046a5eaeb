"""Toolkits whose processes the service starts, on 1, 2 and 4 nodes: every process in full, worked out by hand.

The same in a container and on the host: a toolkit plans what runs, the runner puts it into the container.
(Those that MPI starts: test_mpi_toolkits.py and test_mpi.py.)
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.toolkits.gangs import gang
from trainshed.toolkits import MpiFlavor, Process, plan

PYTHON = '"$(command -v python || command -v python3 || echo python)"'
SCRIPT = {"pythonScriptFilePath": "t.py", "commandLineArgs": "--fast"}
RUN = f'{PYTHON} "t.py" --fast'
ON_HOST: dict[str, Any] = {}
IN_CONTAINER: dict[str, Any] = {"containerSettings": {"imageSourceRegistry": {"image": "ubuntu"}, "shmSize": "1g"}}

places = pytest.mark.parametrize("place", [ON_HOST, IN_CONTAINER], ids=["host", "container"])


def own(rank: int, host: int, local: int, size: int) -> dict[str, str]:
    return {"RANK": str(rank), "LOCAL_RANK": str(local), "LOCAL_WORLD_SIZE": str(size), "NODE_RANK": str(host)}


@places
@pytest.mark.parametrize("backend", [None, "TCP", "gloo", "NCCL"])
@pytest.mark.parametrize(
    ("nodes", "count", "slots", "ranks"),
    [
        (1, None, (1,), [(0, 0, 1)]),
        (1, 3, (3,), [(0, 0, 3), (0, 1, 3), (0, 2, 3)]),
        (2, None, (1, 1), [(0, 0, 1), (1, 0, 1)]),
        (2, 3, (2, 1), [(0, 0, 2), (0, 1, 2), (1, 0, 1)]),
        (2, 4, (2, 2), [(0, 0, 2), (0, 1, 2), (1, 0, 2), (1, 1, 2)]),
        (4, None, (1, 1, 1, 1), [(0, 0, 1), (1, 0, 1), (2, 0, 1), (3, 0, 1)]),
        (4, 6, (2, 2, 1, 1), [(0, 0, 2), (0, 1, 2), (1, 0, 2), (1, 1, 2), (2, 0, 1), (3, 0, 1)]),
        (4, 2, (1, 1, 0, 0), [(0, 0, 1), (1, 0, 1)]),
    ],
)
def test_pytorch(
    place: dict[str, Any],
    backend: str | None,
    nodes: int,
    count: int | None,
    slots: tuple[int, ...],
    ranks: list[tuple[int, int, int]],
) -> None:
    """``ranks``: node, local rank and ranks of that node, by rank."""
    settings = {**SCRIPT, "communicationBackend": backend, "processCount": count}
    made = plan({"pyTorchSettings": settings, **place}, gang(nodes))
    assert made.processes == tuple(
        Process(
            host=host,
            role="rank",
            index=rank,
            command_line=RUN,
            environment={"AZ_BATCHAI_TASK_INDEX": str(rank), **own(rank, host, local, size)},
            stdout=f"stdout-{rank}.txt",
            stderr=f"stderr-{rank}.txt",
        )
        for rank, (host, local, size) in enumerate(ranks)
    )
    assert (made.slots, made.mpi_ranks) == (slots, 0)
    assert (made.environment["WORLD_SIZE"], made.environment["MASTER_ADDR"]) == (str(len(ranks)), "10.0.0.4")
    assert made.environment.get("AZ_BATCHAI_PYTORCH_BACKEND") == backend


@places
@pytest.mark.parametrize(
    ("nodes", "workers", "servers", "tasks"),
    [
        (1, None, None, [("wk", 0, 2222)]),
        (1, 3, 1, [("ps", 0, 2222), ("wk", 0, 2223), ("wk", 0, 2224), ("wk", 0, 2225)]),
        (2, None, None, [("ps", 0, 2222), ("wk", 0, 2223), ("wk", 1, 2222)]),
        (2, 3, 2, [("ps", 0, 2222), ("ps", 1, 2222), ("wk", 0, 2223), ("wk", 1, 2223), ("wk", 0, 2224)]),
        (2, 2, 0, [("wk", 0, 2222), ("wk", 1, 2222)]),
        (4, None, None, [("ps", 0, 2222), ("wk", 0, 2223), ("wk", 1, 2222), ("wk", 2, 2222), ("wk", 3, 2222)]),
        (
            4,
            8,
            2,
            [
                ("ps", 0, 2222), ("ps", 1, 2222), ("wk", 0, 2223), ("wk", 1, 2223), ("wk", 2, 2222), ("wk", 3, 2222),
                ("wk", 0, 2224), ("wk", 1, 2224), ("wk", 2, 2223), ("wk", 3, 2223),
            ],
        ),
    ],
)  # fmt: skip
def test_tensorflow(
    place: dict[str, Any], nodes: int, workers: int | None, servers: int | None, tasks: list[tuple[str, int, int]]
) -> None:
    """``tasks``: role, node and port, parameter servers first, each role by index."""
    settings = {
        "pythonScriptFilePath": "t.py",
        "masterCommandLineArgs": "--master",
        "workerCommandLineArgs": "--worker",
        "parameterServerCommandLineArgs": "--ps",
        "workerCount": workers,
        "parameterServerCount": servers,
    }
    made = plan({"tensorFlowSettings": settings, **place}, gang(nodes))
    listed = {
        role: [f"10.0.0.{4 + host}:{port}" for kind, host, port in tasks if kind == role] for role in ("ps", "wk")
    }
    cluster = {name: listed[role] for name, role in (("ps", "ps"), ("worker", "wk")) if listed[role]}
    assert made.environment["AZ_BATCHAI_PS_HOSTS"] == ",".join(listed["ps"])
    assert made.environment["AZ_BATCHAI_WORKER_HOSTS"] == ",".join(listed["wk"])
    assert made.environment["WORLD_SIZE"] == str(len(listed["wk"]))
    indices = {"ps": iter(range(99)), "wk": iter(range(99))}
    for process, (kind, host, _) in zip(made.processes, tasks, strict=True):
        index = next(indices[kind])
        role, arguments = (
            ("ps", "--ps") if kind == "ps" else ("worker", "--worker") if index else ("master", "--master")
        )
        assert (process.host, process.role, process.index) == (host, role, index)
        assert process.command_line == f'{PYTHON} "t.py" {arguments}'
        assert (process.stdout, process.stderr) == (f"stdout-{kind}-{index}.txt", f"stderr-{kind}-{index}.txt")
        assert process.essential is (kind == "wk")
        assert process.environment["AZ_BATCHAI_TASK_INDEX"] == str(index)
        assert json.loads(process.environment["TF_CONFIG"]) == {
            "cluster": cluster,
            "task": {"type": "ps" if kind == "ps" else "worker", "index": index},
            "environment": "cloud",
        }
    workers_of = [sum(1 for kind, host, _ in tasks if (kind, host) == ("wk", node)) for node in range(nodes)]
    assert made.slots == tuple(workers_of)


@places
@pytest.mark.parametrize("nodes", [1, 2, 4])
def test_one_process_a_node_or_one_in_all(place: dict[str, Any], nodes: int) -> None:
    shards = plan({"caffe2Settings": SCRIPT, **place}, gang(nodes))
    assert shards.processes == tuple(
        Process(
            host=node,
            role="shard",
            index=node,
            command_line=RUN,
            environment={"AZ_BATCHAI_TASK_INDEX": str(node), **own(node, node, 0, 1)},
            stdout=f"stdout-{node}.txt",
            stderr=f"stderr-{node}.txt",
        )
        for node in range(nodes)
    )
    alone = plan({"customToolkitSettings": {"commandLine": "a && b"}, **place}, gang(nodes))
    assert alone.processes == (Process(host=0, role="master", index=0, command_line="a && b"),)
    assert (shards.slots, alone.slots) == ((1,) * nodes, (1,) * nodes)


@pytest.mark.parametrize("flavor", MpiFlavor)
@pytest.mark.parametrize("nodes", [1, 2, 4])
@pytest.mark.parametrize(
    ("member", "settings"),
    [
        ("cntkSettings", {**SCRIPT, "languageType": "Python"}),
        ("caffeSettings", {"configFilePath": "s.prototxt"}),
        ("chainerSettings", SCRIPT),
        ("horovodSettings", SCRIPT),
        ("customMpiSettings", {"commandLine": "a && b"}),
        ("pyTorchSettings", {**SCRIPT, "communicationBackend": "MPI"}),
    ],
)
def test_mpi_is_launched_alike_in_a_container(
    member: str, settings: dict[str, Any], nodes: int, flavor: MpiFlavor
) -> None:
    given = {member: {**settings, "processCount": 2 * nodes}}
    assert plan({**given, **IN_CONTAINER}, gang(nodes, mpi=flavor)) == plan(given, gang(nodes, mpi=flavor))
