"""Ray: the head with the script on the first node, a worker on each of the others."""

from __future__ import annotations

import socket
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.toolkits.gangs import gang
from trainshed.toolkits import plan
from trainshed.toolkits.today import rendezvous_port

PORT = rendezvous_port("attempt-1")


def _job(**settings: Any) -> dict[str, Any]:
    return {"raySettings": {"pythonScriptFilePath": "train.py", "commandLineArgs": "--lr 1", **settings}}


@pytest.mark.parametrize("nodes", [1, 2, 4])
def test_who_runs_where_and_who_ends_the_job(nodes: int) -> None:
    made = plan(_job(), gang(nodes))
    assert [(p.host, p.role, p.index, p.stdout, p.essential) for p in made.processes] == [
        (0, "head", 0, "stdout.txt", True),
        *((node, "worker", node, f"stdout-{node}.txt", False) for node in range(1, nodes)),
    ]
    assert made.environment == {
        "MASTER_ADDR": "10.0.0.4",
        "MASTER_PORT": str(PORT),
        "RAY_ADDRESS": f"10.0.0.4:{PORT}",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    assert (made.slots, made.mpi_ranks) == ((1,) * nodes, 0)


def test_each_node_says_what_it_has() -> None:
    made = gang(2)
    hosts = (replace(made.hosts[0], gpus=2), made.hosts[1])
    head, worker = plan(_job(), replace(made, hosts=hosts)).processes
    assert f"--head --port={PORT} --node-ip-address=10.0.0.4 --num-cpus=4 --num-gpus=2 " in head.command_line
    assert f"--address=10.0.0.4:{PORT} --node-ip-address=10.0.0.5 --num-cpus=4 --num-gpus=0 --block" in (
        worker.command_line
    )


def test_the_head_waits_for_all_nodes_and_ends_as_the_script_does(tmp_path: Path) -> None:
    python = tmp_path / "python"
    # Stands in for an interpreter with Ray: it writes down what it was told, and the script ends with 3.
    python.write_text(
        f'#!/bin/bash\necho "${{RAY_ADDRESS-none}} $*" >>{tmp_path}/told\n'
        'all="$*"; [[ $all != *--temp-dir=* || -d ${all#*--temp-dir=} ]] || exit 9\n'
        '[ "$1" != train.py ] || exit 3\n'
    )
    python.chmod(0o755)
    head = plan(_job(pythonInterpreterPath=str(python)), gang(2)).processes[0]
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "RAY_ADDRESS": "here:1"}
    done = subprocess.run(["/bin/bash", "-c", head.command_line], env=environment, capture_output=True, timeout=30)
    assert done.returncode == 3, done.stderr
    told = (tmp_path / "told").read_text()
    start, rest = told.split("\n", 1)
    # A head must not take the cluster that is being made for one to join.
    assert start.startswith("none -m ray.scripts.scripts start --head ")
    directory = start.rpartition("--temp-dir=")[2]
    assert directory.startswith("/tmp/ray.") and not Path(directory).exists()
    assert rest.startswith("here:1 -c import sys, time, ray\n") and "< 2:" in rest
    assert told.endswith("here:1 train.py --lr 1\n")


def test_a_worker_waits_until_the_head_listens(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/bash\necho "$*" >>{tmp_path}/told\n')
    python.chmod(0o755)
    made = gang(2)
    hosts = tuple(replace(host, address=f"127.0.0.{number}") for number, host in enumerate(made.hosts, start=1))
    worker = plan(_job(pythonInterpreterPath=str(python)), replace(made, hosts=hosts)).processes[1]
    running = subprocess.Popen(["/bin/bash", "-c", worker.command_line])
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            running.wait(0.3)
        assert not (tmp_path / "told").exists()
        with socket.create_server(("127.0.0.1", PORT)):
            assert running.wait(20) == 0
    finally:
        running.kill()
        running.wait()
    assert (tmp_path / "told").read_text().startswith(f"-m ray.scripts.scripts start --address=127.0.0.1:{PORT} ")
