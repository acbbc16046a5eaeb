"""Which member of a job's properties selects which toolkit. Standard library only: the runner loads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Member of ``properties`` -> ``toolType`` (rest-contract sections 6 and 15), in the contract's order.
ORIGINAL_TOOL_TYPES: dict[str, str] = {
    "cntkSettings": "cntk",
    "pyTorchSettings": "pytorch",
    "tensorFlowSettings": "tensorflow",
    "caffeSettings": "caffe",
    "caffe2Settings": "caffe2",
    "chainerSettings": "chainer",
    "customToolkitSettings": "custom",
    "customMpiSettings": "custommpi",
    "horovodSettings": "horovod",
}
#: Those that 2026-11-01 adds.
NEWER_TOOL_TYPES: dict[str, str] = {
    "torchrunSettings": "torchrun",
    "jaxSettings": "jax",
    "deepSpeedSettings": "deepspeed",
    "accelerateSettings": "accelerate",
    "lightningSettings": "lightning",
    "raySettings": "ray",
}
TOOL_TYPES: dict[str, str] = ORIGINAL_TOOL_TYPES | NEWER_TOOL_TYPES
#: Those that count ranks by node x devices, and so need as many processes on each node.
EQUAL_ON_NODES = frozenset({"lightningSettings"})
#: Those that hand out a node's GPUs themselves, and so must see all of them; why gpusPerProcess is refused, and what
#: to do instead.
GIVE_GPUS_THEMSELVES: dict[str, str] = {
    "raySettings": "Ray gives GPUs to its tasks and actors itself. Leave it out, and say num_gpus in the script, as in "
    "@ray.remote(num_gpus=1).",
    "lightningSettings": "its Trainer takes the GPU of LOCAL_RANK from all GPUs of the node. Leave it out.",
    "deepSpeedSettings": "its engine takes the GPU of LOCAL_RANK from all GPUs of the node. Leave it out.",
}


def settings_members(properties: Mapping[str, Any]) -> list[str]:
    """The toolkit members that a job's properties hold; a valid job has exactly one."""
    return [member for member in TOOL_TYPES if properties.get(member) is not None]


def tool_type_of(properties: Mapping[str, Any]) -> str:
    """``toolType`` of a job, from its properties in the contract's JSON form.

    Raises ValueError unless exactly one toolkit is given.
    """
    members = settings_members(properties)
    if len(members) != 1:
        found = ", ".join(members) or "none"
        raise ValueError(f"a job has exactly one of {', '.join(TOOL_TYPES)}; found {found}")
    return TOOL_TYPES[members[0]]
