"""Toolkits that run one Python script under MPI, or by itself where there is a single process and no MPI (8)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainshed.toolkits.launch import Gang, LaunchPlan, Process
from trainshed.toolkits.mpi import mpi_plan
from trainshed.toolkits.placing import Place, process_count, spread
from trainshed.toolkits.today import gang_variables, process_variables


def under_mpi(member: str, command_line: str, settings: Mapping[str, Any], gang: Gang) -> LaunchPlan:
    """``mpirun`` of the command, processCount ranks. A single process needs no MPI, and does without one.

    Raises PlanError when there are several processes and the nodes hold no MPI.
    """
    count = process_count(settings, len(gang.hosts))
    if count == 1 and gang.mpi is None:
        own = process_variables(Place(rank=0, host=0, local_rank=0, local_size=1))
        alone = Process(host=0, role="master", index=0, command_line=command_line, environment=own)
        return LaunchPlan(
            processes=(alone,), environment=gang_variables(gang, 1), slots=spread(1, len(gang.hosts))
        )  # fmt: skip
    return mpi_plan(member, command_line, settings, gang)
