"""JAX: a process per rank, and the variables with which ``jax.distributed.initialize()`` needs no arguments.

JAX reads the coordinator's address of its own variable, but not the number of processes nor the rank: those it takes
from a cluster that it knows. It is told that it runs as a step of Slurm, which takes environment variables alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from zlib import crc32

from trainshed.toolkits.launch import Gang, LaunchPlan
from trainshed.toolkits.per_rank import plan_ranks, slots_of
from trainshed.toolkits.placing import Place
from trainshed.toolkits.today import rendezvous_port

_MEMBER = "jaxSettings"


def plan(settings: Mapping[str, Any], gang: Gang) -> LaunchPlan:
    """A process for each GPU, or processCount. Raises PlanError without a script, or with too few processes."""
    count = str(sum(slots_of(_MEMBER, settings, gang)))
    common = {
        "JAX_COORDINATOR_ADDRESS": f"{gang.hosts[0].address}:{rendezvous_port(gang.attempt_id)}",
        "JAX_NUM_PROCESSES": count,
        # A number, as Slurm's are.
        "SLURM_JOB_ID": str(crc32(gang.attempt_id.encode())),
        "SLURM_STEP_NODELIST": ",".join(host.name for host in gang.hosts),
        "SLURM_STEP_NUM_NODES": str(len(gang.hosts)),
        "SLURM_NTASKS": count,
    }
    if gang.gpus_per_process is not None:
        # Under Slurm JAX takes the device of its local rank's number; these processes see only their own.
        common["JAX_LOCAL_DEVICE_IDS"] = ",".join(map(str, range(gang.gpus_per_process)))
    return plan_ranks(_MEMBER, settings, gang, common, _own)


def _own(place: Place) -> dict[str, str]:
    return {
        "JAX_PROCESS_ID": str(place.rank),
        "SLURM_PROCID": str(place.rank),
        "SLURM_LOCALID": str(place.local_rank),
    }
