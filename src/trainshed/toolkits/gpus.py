"""Which GPUs of its node each process sees: all of them, or ``gpusPerProcess`` of its own (2026-11-01).

The original let the processes of a node share all its GPUs, and scripts choose one by their local rank (behaviour 8);
that is the default. With ``gpusPerProcess`` n, the process of local rank r sees the node's GPUs r*n to r*n + n - 1.
The processes that the service starts are told here; the rank wrapper (``rank.sh``) tells each rank that MPI or torchrun
starts, since only they know which rank is where.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from trainshed.toolkits.launch import Host, LaunchPlan, PlanError, Process

#: What CUDA and ROCm go by. The engine gives the same list in all of them.
VARIABLES = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
#: Tells the rank wrapper how many GPUs each rank gets.
PER_RANK = "TRAINSHED_GPUS_PER_PROCESS"


def bind(plan: LaunchPlan, each: int, hosts: Sequence[Host]) -> LaunchPlan:
    """The plan with ``each`` GPUs of its own for every process. Raises PlanError where a node has too few."""
    slots = plan.slots or (1,) * len(hosts)
    for host, count in zip(hosts, slots, strict=True):
        if count * each > host.gpus:
            raise PlanError(
                f"gpusPerProcess is {each}, and node {host.name} runs {count} processes: that takes {count * each} "
                f"GPUs, and it has {host.gpus}. Use fewer processes, more nodes, a larger vmSize, or leave "
                "gpusPerProcess out: then the processes of a node share its GPUs."
            )
    processes = tuple(_bound(process, each, hosts[process.host]) for process in plan.processes)
    if plan.wrapped_ranks:
        return replace(plan, environment={**plan.environment, PER_RANK: str(each)})
    return replace(plan, processes=processes)


def visible(host: Host, local_rank: int, each: int) -> dict[str, str]:
    """The variables of the process of this local rank."""
    first = local_rank * each
    if host.devices:
        return dict.fromkeys(VARIABLES, ",".join(host.devices[first : first + each]))
    # By number, for one variable only: those of ROCm count within one another.
    return {VARIABLES[0]: ",".join(str(number) for number in range(first, first + each))}


def _bound(process: Process, each: int, host: Host) -> Process:
    if not process.essential:
        # Parameter servers compute on CPUs; a GPU that they see is memory that their workers miss.
        own = dict.fromkeys(VARIABLES, "")
    else:
        own = visible(host, int(process.environment.get("LOCAL_RANK", "0")), each)
    return replace(process, environment={**process.environment, **own})
