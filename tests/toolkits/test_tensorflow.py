"""TensorFlow: masters, workers and parameter servers, their addresses and what each is told (behaviour 7 and 8)."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.toolkits.gangs import gang
from trainshed.toolkits import PlanError, plan
from trainshed.toolkits.today import rendezvous_port

PYTHON = '"$(command -v python || command -v python3 || echo python)" "train.py"'


def _job(**settings: Any) -> dict[str, Any]:
    return {"tensorFlowSettings": {"pythonScriptFilePath": "train.py", **settings}}


def test_the_addresses_of_three_nodes_are_those_that_were_seen() -> None:
    """BatchAI issue 15, quoted in behaviour 7: servers take ports first, and the count restarts on each node."""
    made = plan(_job(workerCount=3, parameterServerCount=1), gang(3))
    assert made.environment["AZ_BATCHAI_PS_HOSTS"] == "10.0.0.4:2222"
    assert made.environment["AZ_BATCHAI_WORKER_HOSTS"] == "10.0.0.4:2223,10.0.0.5:2222,10.0.0.6:2222"


def test_each_process_of_a_distributed_job() -> None:
    made = plan(
        _job(
            workerCount=2,
            parameterServerCount=1,
            masterCommandLineArgs="--job_name=worker --task_index=$AZ_BATCHAI_TASK_INDEX",
            workerCommandLineArgs="--job_name=worker",
            parameterServerCommandLineArgs="--job_name=ps",
        ),
        gang(2),
    )
    assert [(p.host, p.role, p.index, p.command_line, p.stdout, p.stderr, p.essential) for p in made.processes] == [
        (0, "ps", 0, f"{PYTHON} --job_name=ps", "stdout-ps-0.txt", "stderr-ps-0.txt", False),
        (
            0, "master", 0, f"{PYTHON} --job_name=worker --task_index=$AZ_BATCHAI_TASK_INDEX", "stdout-wk-0.txt",
            "stderr-wk-0.txt", True,
        ),
        (1, "worker", 1, f"{PYTHON} --job_name=worker", "stdout-wk-1.txt", "stderr-wk-1.txt", True),
    ]  # fmt: skip
    cluster = {"ps": ["10.0.0.4:2222"], "worker": ["10.0.0.4:2223", "10.0.0.5:2222"]}
    assert [json.loads(p.environment["TF_CONFIG"]) for p in made.processes] == [
        {"cluster": cluster, "task": {"type": "ps", "index": 0}, "environment": "cloud"},
        {"cluster": cluster, "task": {"type": "worker", "index": 0}, "environment": "cloud"},
        {"cluster": cluster, "task": {"type": "worker", "index": 1}, "environment": "cloud"},
    ]
    assert [p.environment["AZ_BATCHAI_TASK_INDEX"] for p in made.processes] == ["0", "0", "1"]
    assert [p.environment.get("RANK") for p in made.processes] == [None, "0", "1"]
    assert (made.slots, made.mpi_ranks) == ((1, 1), 0)


def test_nodes_on_one_machine_share_its_ports() -> None:
    """TensorFlow listens on all addresses with SO_REUSEPORT: equal ports would mix up nodes, and jobs."""
    made = gang(2)
    hosts = tuple(replace(host, address=f"127.9.0.{node}") for node, host in enumerate(made.hosts, start=4))
    found = plan(_job(workerCount=3, parameterServerCount=1), replace(made, hosts=hosts)).environment
    first = rendezvous_port("attempt-1") + 1
    assert found["AZ_BATCHAI_PS_HOSTS"] == f"127.9.0.4:{first}"
    assert found["AZ_BATCHAI_WORKER_HOSTS"] == f"127.9.0.4:{first + 1},127.9.0.5:{first + 2},127.9.0.4:{first + 3}"


def test_a_master_that_is_the_chief() -> None:
    """ParameterServerStrategy's cluster: workers count without the chief, and serve it until the job ends with it."""
    made = plan(_job(workerCount=3, parameterServerCount=1, masterRole="Chief"), gang(2))
    cluster = {"chief": ["10.0.0.4:2223"], "ps": ["10.0.0.4:2222"], "worker": ["10.0.0.5:2222", "10.0.0.4:2224"]}
    configs = [json.loads(process.environment["TF_CONFIG"]) for process in made.processes]
    assert [config["cluster"] for config in configs] == [cluster] * 4
    assert [tuple(config["task"].values()) for config in configs] == [
        ("ps", 0),
        ("chief", 0),
        ("worker", 0),
        ("worker", 1),
    ]
    assert [(p.role, p.index, p.essential) for p in made.processes] == [
        ("ps", 0, False),
        ("master", 0, True),
        ("worker", 1, False),
        ("worker", 2, False),
    ]
    # The original's variables don't know of a chief.
    assert made.environment["AZ_BATCHAI_WORKER_HOSTS"] == "10.0.0.4:2223,10.0.0.5:2222,10.0.0.4:2224"
    assert plan(_job(masterRole="Worker"), gang(2)) == plan(_job(), gang(2))
    alone = json.loads(plan(_job(masterRole="Chief"), gang(1)).processes[0].environment["TF_CONFIG"])
    assert alone["cluster"] == {"chief": ["10.0.0.4:2222"]}


@pytest.mark.parametrize(
    ("nodes", "settings", "servers", "workers"),
    [
        (1, {}, "", "10.0.0.4:2222"),
        (1, {"workerCount": 2}, "10.0.0.4:2222", "10.0.0.4:2223,10.0.0.4:2224"),
        (1, {"workerCount": 2, "parameterServerCount": 0}, "", "10.0.0.4:2222,10.0.0.4:2223"),
        (2, {}, "10.0.0.4:2222", "10.0.0.4:2223,10.0.0.5:2222"),
        (2, {"parameterServerCount": 0}, "", "10.0.0.4:2222,10.0.0.5:2222"),
        (2, {"workerCount": 1, "parameterServerCount": 1}, "10.0.0.4:2222", "10.0.0.4:2223"),
        (
            2,
            {"workerCount": 4, "parameterServerCount": 2},
            "10.0.0.4:2222,10.0.0.5:2222",
            "10.0.0.4:2223,10.0.0.5:2223,10.0.0.4:2224,10.0.0.5:2224",
        ),
        (
            4,
            {},
            "10.0.0.4:2222",
            "10.0.0.4:2223,10.0.0.5:2222,10.0.0.6:2222,10.0.0.7:2222",
        ),
    ],
)
def test_counts_and_ports(nodes: int, settings: dict[str, int], servers: str, workers: str) -> None:
    made = plan(_job(**settings), gang(nodes))
    found = made.environment
    assert (found["AZ_BATCHAI_PS_HOSTS"], found["AZ_BATCHAI_WORKER_HOSTS"]) == (servers, workers)
    listening = [address for hosts in (servers, workers) for address in hosts.split(",") if address]
    assert len(set(listening)) == len(listening) == len(made.processes)
    assert found["WORLD_SIZE"] == str(workers.count(":"))


def test_local_ranks_count_on_each_node() -> None:
    made = plan(_job(workerCount=3, parameterServerCount=0), gang(2))
    assert [
        (p.environment["RANK"], p.environment["NODE_RANK"], p.environment["LOCAL_RANK"]) for p in made.processes
    ] == [("0", "0", "0"), ("1", "1", "0"), ("2", "0", "1")]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"workerCount": 0}, "at least one worker"),
        ({"parameterServerCount": 3}, "at most one a node"),
        ({"workerCount": 5}, "which is 4"),
    ],
)
def test_counts_that_the_nodes_do_not_allow(settings: dict[str, int], told: str) -> None:
    made = gang(2)
    with pytest.raises(PlanError, match=told):
        plan(_job(**settings), replace(made, hosts=tuple(replace(host, gpus=2) for host in made.hosts)))
