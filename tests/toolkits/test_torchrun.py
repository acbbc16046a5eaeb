"""torchrun: an agent on each node, how the agents meet, how many ranks each starts (frameworks 2, 6 and 7)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.toolkits.gangs import gang
from trainshed.toolkits import Process, plan
from trainshed.toolkits.today import rendezvous_port

PYTHON = '"$(command -v python || command -v python3 || echo python)"'
RUN = f"{PYTHON} -m torch.distributed.run"
PORT = rendezvous_port("attempt-1")


def _job(**settings: Any) -> dict[str, Any]:
    return {"torchrunSettings": {"pythonScriptFilePath": "train.py", "commandLineArgs": "--lr $RATE", **settings}}


def _c10d(node: int) -> str:
    return (
        f"--rdzv-backend=c10d --rdzv-id=attempt-1 --rdzv-endpoint=10.0.0.4:{PORT} "
        f"--rdzv-conf=is_host={int(node == 0)} --local-addr=10.0.0.{4 + node}"
    )


def _static(node: int) -> str:
    return f"--node-rank={node} --master-addr=10.0.0.4 --master-port={PORT}"


@pytest.mark.parametrize(
    ("nodes", "settings", "slots", "rendezvous", "restarts"),
    [
        (1, {}, (1,), _c10d, 0),
        (1, {"processCount": 3}, (3,), _c10d, 0),
        (2, {"maxRestarts": 2}, (1, 1), _c10d, 2),
        (2, {"processCount": 3, "rendezvousBackend": "static"}, (2, 1), _static, 0),
        (4, {"processCount": 8, "rendezvousBackend": "c10d"}, (2, 2, 2, 2), _c10d, 0),
        (4, {"processCount": 8, "rendezvousBackend": "static", "maxRestarts": 1}, (2, 2, 2, 2), _static, 1),
    ],
)
def test_the_whole_plan(
    nodes: int, settings: dict[str, Any], slots: tuple[int, ...], rendezvous: Any, restarts: int
) -> None:
    made = plan(_job(**settings), gang(nodes))
    assert made.processes == tuple(
        Process(
            host=node,
            role="agent",
            index=node,
            command_line=f"{RUN} --nnodes={nodes} --nproc-per-node={count} {rendezvous(node)} "
            f'--max-restarts={restarts} --no-python /rank.sh {PYTHON} -u "train.py" --lr $RATE',
            environment={"NODE_RANK": str(node), "LOCAL_WORLD_SIZE": str(count)},
            stdout=f"stdout-{node}.txt",
            stderr=f"stderr-{node}.txt",
        )
        for node, count in enumerate(slots)
    )
    assert made.environment == {
        "MASTER_ADDR": "10.0.0.4",
        "MASTER_PORT": str(PORT),
        "WORLD_SIZE": str(sum(slots)),
    }
    assert (made.slots, made.mpi_ranks, made.agent_ranks) == (slots, 0, sum(slots))
    assert made.rank_stderr == "ranks/stderr-{}.txt"
