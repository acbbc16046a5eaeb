"""Which toolkit plans which job: a new one is one file here and one line in ``_TOOLKITS``.

A toolkit is a function of its settings (the contract's JSON, defaults filled in or not) and the gang.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from trainshed.resources.toolsettings import TOOL_TYPES, settings_members, tool_type_of
from trainshed.toolkits import custom, custom_mpi, pytorch
from trainshed.toolkits.launch import Gang, LaunchPlan, PlanError

__all__ = ["needs_mpi", "plan", "tool_type_of"]

Toolkit = Callable[[Mapping[str, Any], Gang], LaunchPlan]

_TOOLKITS: dict[str, Toolkit] = {
    "customToolkitSettings": custom.plan,
    "customMpiSettings": custom_mpi.plan,
    "pyTorchSettings": pytorch.plan,
}


def plan(properties: Mapping[str, Any], gang: Gang) -> LaunchPlan:
    """The processes of a job (``properties`` in the contract's JSON form) on its gang.

    Raises PlanError when the job cannot be launched on it; the message says what to change.
    """
    if not gang.hosts:
        raise PlanError("a gang needs at least one host")
    member = _member(properties)
    toolkit = _TOOLKITS.get(member)
    if toolkit is None:
        able = ", ".join(sorted(TOOL_TYPES[known] for known in _TOOLKITS))
        raise PlanError(
            f"{member}: this version cannot launch {TOOL_TYPES[member]} jobs yet; it launches {able}. "
            "Run the script with customMpiSettings (under MPI) or customToolkitSettings instead."
        )
    return toolkit(properties[member], gang)


def needs_mpi(properties: Mapping[str, Any]) -> bool:
    """Whether planning the job asks for ``Gang.mpi``: only then need the runner look for an ``mpirun``."""
    member = _member(properties)
    if member == "pyTorchSettings":
        return pytorch.uses_mpi(properties[member])
    return member == "customMpiSettings"


def _member(properties: Mapping[str, Any]) -> str:
    members = settings_members(properties)
    if len(members) != 1:
        found = " and ".join(members) or "none"
        raise PlanError(f"a job has exactly one toolkit's settings; found {found}")
    return members[0]
