"""Caffe: ``caffe train`` on a solver file, or a Python script, under MPI (behaviour 8)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainshed.toolkits.launch import Gang, LaunchPlan, PlanError
from trainshed.toolkits.python import python_command, quote_path
from trainshed.toolkits.scripts import under_mpi

_MEMBER = "caffeSettings"


def plan(settings: Mapping[str, Any], gang: Gang) -> LaunchPlan:
    """processCount ranks. Raises PlanError without solver or script, or without MPI for several processes."""
    return under_mpi(_MEMBER, command(settings), settings, gang)


def command(settings: Mapping[str, Any]) -> str:
    """What each rank runs. Which GPUs ``caffe train`` takes is the user's to say (``-gpu all``)."""
    if settings.get("pythonScriptFilePath"):
        return python_command(settings)
    solver = settings.get("configFilePath")
    if not solver:
        raise PlanError(f"{_MEMBER} needs configFilePath (a solver file) or pythonScriptFilePath")
    arguments = settings.get("commandLineArgs")
    return " ".join(["caffe", "train", "--solver", quote_path(solver), *([arguments] if arguments else [])])
