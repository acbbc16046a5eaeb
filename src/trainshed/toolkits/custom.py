"""The custom toolkit: one command line on the first node; the other nodes are found through the host file (8)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainshed.toolkits.launch import Gang, LaunchPlan, PlanError, Process


def plan(settings: Mapping[str, Any], gang: Gang) -> LaunchPlan:
    """One process on host 0. Raises PlanError when the command line is empty."""
    command_line = settings.get("commandLine") or ""
    if not command_line.strip():
        raise PlanError("customToolkitSettings.commandLine is empty: give the command to run on the first node")
    return LaunchPlan(
        processes=(Process(host=0, role="master", index=0, command_line=command_line),),
        slots=(1,) * len(gang.hosts),
    )
