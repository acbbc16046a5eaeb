"""Toolkits that start the script once per rank and let the ranks find each other by today's variables (``today``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from trainshed.resources.directories import rank_logs
from trainshed.resources.toolsettings import EQUAL_ON_NODES
from trainshed.toolkits.launch import Gang, LaunchPlan, PlanError, Process
from trainshed.toolkits.placing import Place, places, spread
from trainshed.toolkits.python import python_command
from trainshed.toolkits.today import gang_variables, process_variables

#: What a rank has besides today's variables, by its place.
OwnVariables = Callable[[Place], Mapping[str, str]]


def plan_ranks(
    member: str,
    settings: Mapping[str, Any],
    gang: Gang,
    common: Mapping[str, str] | None = None,
    own: OwnVariables | None = None,
) -> LaunchPlan:
    """A process per rank, with ``common`` variables and ``own`` ones. Raises PlanError as ``slots_of`` does."""
    command_line = python_command(settings)
    slots = slots_of(member, settings, gang)
    processes = []
    for place in places(slots):
        stdout, stderr = rank_logs(place.rank)
        variables = {**process_variables(place), **(own(place) if own is not None else {})}
        processes.append(Process(place.host, "rank", place.rank, command_line, variables, stdout, stderr))
    environment = {**gang_variables(gang, sum(slots)), **(common or {})}
    return LaunchPlan(processes=tuple(processes), environment=environment, slots=slots)


def slots_of(member: str, settings: Mapping[str, Any], gang: Gang) -> tuple[int, ...]:
    """Ranks of each node: processCount spread evenly, else one for each GPU (or gpusPerProcess of them), at least one.

    Raises PlanError when a node would have none, or when the toolkit needs equal numbers and they are not.
    """
    count = settings.get("processCount")
    nodes = len(gang.hosts)
    slots = (
        spread(int(count), nodes)
        if count is not None
        else tuple(max(host.gpus // (gang.gpus_per_process or 1), 1) for host in gang.hosts)
    )
    if min(slots) < 1:
        raise PlanError(
            f"{member}.processCount is {count}: the job has {nodes} nodes, and each needs a process. "
            "Raise processCount or lower nodeCount."
        )
    if member in EQUAL_ON_NODES and len(set(slots)) > 1:
        raise PlanError(
            f"{member} needs the same number of processes on every node, and they would be "
            f"{', '.join(map(str, slots))}. Set processCount to a multiple of nodeCount ({nodes})."
        )
    return slots
