"""CNTK: the ``cntk`` program with a BrainScript configuration, or a Python script, under MPI (behaviour 8)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from trainshed.toolkits.launch import Gang, LaunchPlan, PlanError
from trainshed.toolkits.python import python_command, quote_path
from trainshed.toolkits.scripts import under_mpi

_MEMBER = "cntkSettings"


def plan(settings: Mapping[str, Any], gang: Gang) -> LaunchPlan:
    """processCount ranks. Raises PlanError without configuration or script, or without MPI for several processes."""
    made = under_mpi(_MEMBER, command(settings), settings, gang)
    # Keras has no toolkit of its own: its back end follows the toolkit (behaviour 8).
    return replace(made, environment={**made.environment, "KERAS_BACKEND": "cntk"})


def command(settings: Mapping[str, Any]) -> str:
    """What each rank runs. BrainScript is the default, as its recipes leave languageType out."""
    if settings.get("languageType") == "Python" or (
        settings.get("languageType") is None and not settings.get("configFilePath")
    ):
        return python_command(settings)
    config = settings.get("configFilePath")
    if not config:
        raise PlanError(f"{_MEMBER}.configFilePath is missing: give the BrainScript configuration")
    # Arguments are key=value words that override the configuration's.
    arguments = settings.get("commandLineArgs")
    return " ".join(["cntk", f"configFile={quote_path(config)}", *([arguments] if arguments else [])])
