"""The custom MPI toolkit: the command line is what MPI starts, once per rank (behaviour 8)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainshed.toolkits.launch import Gang, LaunchPlan, PlanError
from trainshed.toolkits.mpi import mpi_plan


def plan(settings: Mapping[str, Any], gang: Gang) -> LaunchPlan:
    """``mpirun`` of the command on host 0, with processCount ranks. Raises PlanError without command or MPI."""
    command_line = settings.get("commandLine") or ""
    if not command_line.strip():
        raise PlanError("customMpiSettings.commandLine is empty: give the command that MPI starts once per rank")
    return mpi_plan("customMpiSettings", command_line, settings, gang)
