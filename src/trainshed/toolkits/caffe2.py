"""Caffe2: the script once on each node; shards meet by files in the shared directory (behaviour 7 and 8)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainshed.resources.directories import rank_logs
from trainshed.toolkits.launch import Gang, LaunchPlan, Process
from trainshed.toolkits.placing import places
from trainshed.toolkits.python import python_command
from trainshed.toolkits.today import gang_variables, process_variables


def plan(settings: Mapping[str, Any], gang: Gang) -> LaunchPlan:
    """One process a node, its shard in AZ_BATCHAI_TASK_INDEX. Raises PlanError without a script."""
    command_line = python_command(settings)
    slots = (1,) * len(gang.hosts)
    processes = []
    for place in places(slots):
        stdout, stderr = rank_logs(place.rank)
        processes.append(
            Process(
                host=place.host,
                role="shard",
                index=place.rank,
                command_line=command_line,
                environment={"AZ_BATCHAI_TASK_INDEX": str(place.rank), **process_variables(place)},
                stdout=stdout,
                stderr=stderr,
            )
        )
    return LaunchPlan(processes=tuple(processes), environment=gang_variables(gang, len(slots)), slots=slots)
