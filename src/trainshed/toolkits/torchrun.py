"""torchrun: an elastic agent on each node, which starts the node's ranks and sets their variables.

The service starts the agents itself, as ``python -m torch.distributed.run`` of the job's interpreter, and ends all of
them as soon as one fails: an agent alone waits five minutes for the others. The agents start each rank by
``gang.rank_wrapper``, which tells how the rank ended, copies what it says to files of its own and gives it its GPUs.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from trainshed.resources.directories import launched_logs, rank_logs
from trainshed.toolkits.launch import Gang, LaunchPlan, Process
from trainshed.toolkits.per_rank import slots_of
from trainshed.toolkits.python import interpreter, python_command
from trainshed.toolkits.today import gang_variables, rendezvous_port

_MEMBER = "torchrunSettings"


def plan(settings: Mapping[str, Any], gang: Gang) -> LaunchPlan:
    """An agent on each node with a rank for each GPU, or its part of processCount.

    Raises PlanError without a script, or when a node would have no rank.
    """
    slots = slots_of(_MEMBER, settings, gang)
    # As the agent itself would start it: by the same interpreter, unbuffered.
    script = python_command(settings, options=["-u"])
    rank = f"{shlex.quote(gang.rank_wrapper)} {script}" if gang.rank_wrapper else script
    processes = []
    for node, count in enumerate(slots):
        options = [f"--nnodes={len(slots)}", f"--nproc-per-node={count}", *_rendezvous(settings, gang, node)]
        options.append(f"--max-restarts={settings.get('maxRestarts') or 0}")
        stdout, stderr = rank_logs(node)
        command_line = f"{interpreter(settings)} -m torch.distributed.run {shlex.join(options)} --no-python {rank}"
        own = {"NODE_RANK": str(node), "LOCAL_WORLD_SIZE": str(count)}
        processes.append(Process(node, "agent", node, command_line, own, stdout, stderr))
    return LaunchPlan(
        processes=tuple(processes),
        environment=gang_variables(gang, sum(slots)),
        slots=slots,
        agent_ranks=sum(slots) if gang.rank_wrapper else 0,
        rank_stderr=launched_logs("{}")[1],
    )


def _rendezvous(settings: Mapping[str, Any], gang: Gang, node: int) -> list[str]:
    """How the agents meet. Addresses are named everywhere: host names need not resolve."""
    master, port = gang.hosts[0].address, rendezvous_port(gang.attempt_id)
    if settings.get("rendezvousBackend") == "static":
        return [f"--node-rank={node}", f"--master-addr={master}", f"--master-port={port}"]
    return [
        "--rdzv-backend=c10d",
        f"--rdzv-id={gang.attempt_id}",
        f"--rdzv-endpoint={master}:{port}",
        # The first node has the store: said outright, since an agent else compares host names to find out.
        f"--rdzv-conf=is_host={1 if node == 0 else 0}",
        f"--local-addr={gang.hosts[node].address}",
    ]
