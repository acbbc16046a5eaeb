"""The VM size of a cluster when nobody chose one: a size of this machine that leaves room for all its nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainshed.client.client import Client

#: Known on every machine; also when the service cannot say what it has.
_WHOLE_MACHINE = "LOCAL"


def default_size(client: Client, nodes: int) -> str:
    """The largest local size of which ``nodes`` fit beside one another; the smallest when none does."""
    sizes = []
    for size in client.clusters.sizes():
        name = str(size.get("name") or "")
        if name.upper().startswith(_WHOLE_MACHINE):
            sizes.append(
                (int(size.get("numberOfCores", "cores") or 1), int(size.get("gpus", "numberOfGpus") or 0), name)
            )
    if not sizes:
        return _WHOLE_MACHINE
    machine = max(cores for cores, _, _ in sizes)
    # GPUs are never shared: a machine that has some offers sizes with a share of them.
    fitting = [size for size in sizes if size[0] * max(nodes, 1) <= machine]
    if not fitting:
        return min(sizes)[2]
    return max(fitting, key=lambda size: (size[0], size[1], -len(size[2])))[2]
