"""Horovod: ``mpirun`` of the script (behaviour 8). What hvd.rank() answers comes from MPI."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainshed.toolkits.launch import Gang, LaunchPlan
from trainshed.toolkits.python import python_command
from trainshed.toolkits.scripts import under_mpi


def plan(settings: Mapping[str, Any], gang: Gang) -> LaunchPlan:
    """processCount ranks of the script. Raises PlanError without a script, or without MPI for several processes."""
    return under_mpi("horovodSettings", python_command(settings), settings, gang)
