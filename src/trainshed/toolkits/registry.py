"""Which toolkit plans which job: a new one is one file here and one line in ``_TOOLKITS``.

A toolkit is a function of its settings (the contract's JSON, defaults filled in or not) and the gang.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from trainshed.resources.toolsettings import GIVE_GPUS_THEMSELVES, settings_members, tool_type_of
from trainshed.toolkits import (
    accelerate,
    caffe,
    caffe2,
    chainer,
    cntk,
    custom,
    custom_mpi,
    deepspeed,
    horovod,
    jax,
    lightning,
    pytorch,
    ray,
    tensorflow,
    torchrun,
)
from trainshed.toolkits.gpus import bind
from trainshed.toolkits.launch import Gang, LaunchPlan, PlanError

__all__ = ["needs_mpi", "plan", "tool_type_of"]

Toolkit = Callable[[Mapping[str, Any], Gang], LaunchPlan]

_TOOLKITS: dict[str, Toolkit] = {
    "cntkSettings": cntk.plan,
    "pyTorchSettings": pytorch.plan,
    "tensorFlowSettings": tensorflow.plan,
    "caffeSettings": caffe.plan,
    "caffe2Settings": caffe2.plan,
    "chainerSettings": chainer.plan,
    "customToolkitSettings": custom.plan,
    "customMpiSettings": custom_mpi.plan,
    "horovodSettings": horovod.plan,
    "torchrunSettings": torchrun.plan,
    "jaxSettings": jax.plan,
    "deepSpeedSettings": deepspeed.plan,
    "accelerateSettings": accelerate.plan,
    "lightningSettings": lightning.plan,
    "raySettings": ray.plan,
}


#: Those that MPI starts.
_UNDER_MPI = frozenset({"cntkSettings", "caffeSettings", "chainerSettings", "customMpiSettings", "horovodSettings"})


def plan(properties: Mapping[str, Any], gang: Gang) -> LaunchPlan:
    """The processes of a job (``properties`` in the contract's JSON form) on its gang.

    Raises PlanError when the job cannot be launched on it; the message says what to change.
    """
    if not gang.hosts:
        raise PlanError("a gang needs at least one host")
    member = _member(properties)
    each = properties.get("gpusPerProcess")
    if each is None:
        return _TOOLKITS[member](properties[member], gang)
    if member in GIVE_GPUS_THEMSELVES:
        raise PlanError(f"gpusPerProcess does not go with {member}: {GIVE_GPUS_THEMSELVES[member]}")
    return bind(_TOOLKITS[member](properties[member], replace(gang, gpus_per_process=each)), each, gang.hosts)


def needs_mpi(properties: Mapping[str, Any]) -> bool:
    """Whether planning the job asks for ``Gang.mpi``: only then need the runner look for an ``mpirun``."""
    member = _member(properties)
    if member == "pyTorchSettings":
        return pytorch.uses_mpi(properties[member])
    return member in _UNDER_MPI


def _member(properties: Mapping[str, Any]) -> str:
    members = settings_members(properties)
    if len(members) != 1:
        found = " and ".join(members) or "none"
        raise PlanError(f"a job has exactly one toolkit's settings; found {found}")
    return members[0]
