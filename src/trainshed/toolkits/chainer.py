"""Chainer: ``mpirun`` of the script, for ChainerMN (behaviour 8)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainshed.toolkits.launch import Gang, LaunchPlan
from trainshed.toolkits.python import python_command
from trainshed.toolkits.scripts import under_mpi


def plan(settings: Mapping[str, Any], gang: Gang) -> LaunchPlan:
    """processCount ranks of the script. Raises PlanError without a script, or without MPI for several processes."""
    return under_mpi("chainerSettings", python_command(settings), settings, gang)
