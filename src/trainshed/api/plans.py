"""2026-11-01: what a job would start where, without running it.

Nothing is stored, and the workspace and experiment of the path need not exist: their names go into the directories.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from trainshed.api.answers import answer, warning
from trainshed.api.call import Call
from trainshed.api.errors import ApiError
from trainshed.api.jobs import open_cluster
from trainshed.api.uses import require_cluster
from trainshed.resources import parsing
from trainshed.resources.definition import definition
from trainshed.resources.job_plan import PlanAssumptions
from trainshed.resources.reasons import ReasonCode
from trainshed.resources.toolsettings import settings_members, tool_type_of
from trainshed.resources.views import Json
from trainshed.resources.vmsizes import VmSize, find_size
from trainshed.store.records import ClusterRecord
from trainshed.toolkits.launch import Host, MpiFlavor, PlanError
from trainshed.toolkits.preview import Preview, example_hosts, example_place, preview

#: Most processes of a plan: each of TensorFlow's is told of all others.
MAX_PROCESSES = 1024
_FLAVORS = {
    "openmpi": MpiFlavor.OPEN_MPI_5,
    "openmpi5": MpiFlavor.OPEN_MPI_5,
    "openmpi4": MpiFlavor.OPEN_MPI_4,
    "mpich": MpiFlavor.MPICH,
    "intel": MpiFlavor.INTEL,
    "none": None,
}


async def plan_job(call: Call) -> Response:
    """POST a job as PUT takes it: which process would run on which node, with which command and environment.

    The cluster may be absent; ``assume`` then says what nodes to think of. Whether they exist, or could, is not asked.
    """
    names = (call.subscription, call.group, call.name("workspace"), call.name("experiment"))
    body = await call.body()
    parsed = parsing.parse_job_plan(body)
    wanted, assume = definition(parsed.model), parsed.model.assume
    cluster, size = await _cluster(call, wanted)
    hosts = _hosts(wanted["nodeCount"], cluster, size, assume)
    if cluster is not None or assume.gpus is not None:
        # What the job would be refused for where the GPUs are known.
        parsing.parse_job_plan(body, gpus_per_node=hosts[0].gpus)
    _check_size(wanted)
    place = example_place(*names)
    try:
        made = await asyncio.to_thread(preview, wanted, hosts, place, _FLAVORS[assume.mpi])
    except PlanError as error:
        raise ApiError(400, ReasonCode.JOB_LAUNCH_FAILED.value, str(error), target="properties") from error
    return answer(_view(made, wanted, parsed.model.api_version), headers=warning(parsed.ignored))


async def _cluster(call: Call, wanted: Mapping[str, Any]) -> tuple[ClusterRecord | None, VmSize | None]:
    cluster_id = (wanted.get("cluster") or {}).get("id")
    if cluster_id is None:
        return None, None
    require_cluster(call, cluster_id)
    cluster = await call.read(lambda tx: open_cluster(tx, cluster_id))
    return cluster, find_size(cluster.vm_size, call.services.local_sizes)


def _hosts(count: int, cluster: ClusterRecord | None, size: VmSize | None, assume: PlanAssumptions) -> tuple[Host, ...]:
    gpus = assume.gpus if assume.gpus is not None else size.gpus if size else 0
    cpus = assume.cpus if assume.cpus is not None else size.cores if size else 1
    return example_hosts(count, cluster.name.lower().replace("_", "-") if cluster else "node", cpus, gpus)


def _check_size(wanted: Mapping[str, Any]) -> None:
    settings = wanted[settings_members(wanted)[0]]
    count = max(settings.get("processCount") or 1, settings.get("workerCount") or 1)
    if count > MAX_PROCESSES:
        raise ApiError(
            400,
            "JobPlanTooLarge",
            f"The job has {count} processes, and a plan shows at most {MAX_PROCESSES}. Ask with fewer: the others are "
            "started alike. The job itself may be submitted as it is.",
            target="properties",
        )


def _view(made: Preview, wanted: Mapping[str, Any], version: str) -> Json:
    plan = made.plan
    slots = plan.slots or (0,) * len(made.hosts)
    return {
        "toolType": tool_type_of(wanted),
        "apiVersion": version,
        **({"mpi": made.mpi.value} if made.mpi else {}),
        "nodes": [
            {
                "index": index,
                "name": host.name,
                "address": host.address,
                "cpus": host.cpus,
                "gpus": host.gpus,
                "slots": slots[index],
                "environment": _pairs(made.environments[index]),
                **(
                    {}
                    if made.preparation is None
                    else {
                        "preparation": {
                            "commandLine": made.preparation,
                            "stdout": made.preparation_logs[index][0],
                            "stderr": made.preparation_logs[index][1],
                        }
                    }
                ),
            }
            for index, host in enumerate(made.hosts)
        ],
        "processes": [
            {
                "node": process.host,
                "role": process.role,
                "index": process.index,
                "commandLine": process.command_line,
                "environment": _pairs(process.environment),
                "stdout": process.stdout,
                "stderr": process.stderr,
                "essential": process.essential,
            }
            for process in plan.processes
        ],
        "ranks": [
            {"rank": rank.rank, "node": rank.host, "environment": _pairs(rank.environment)} for rank in made.ranks
        ],
    }


def _pairs(environment: Mapping[str, str]) -> list[Json]:
    """As jobs have their variables."""
    return [{"name": name, "value": value} for name, value in environment.items()]
