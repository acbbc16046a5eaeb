"""Which Ray nodes a cluster may have, which of them are free, and what Ray's autoscaler is asked for: pure.

A cluster names its Ray nodes by a custom resource (``resource``), by labels (``labels``), or by neither: then every
node with the CPUs and GPUs of its VM size fits. A Ray node is held whole, by one node of Trainshed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Death:
    """How a node of Ray ended, as Ray says it. ``wanted``: somebody had it end: a person, the autoscaler, the cloud."""

    wanted: bool
    text: str


@dataclass(frozen=True, slots=True)
class RayNode:
    """A node of Ray."""

    ray_id: str
    address: str
    resources: Mapping[str, float]
    labels: Mapping[str, str] = field(default_factory=dict)
    #: Nobody has CPUs of it now.
    idle: bool = True
    #: None while it lives.
    death: Death | None = None

    @property
    def cpus(self) -> int:
        """What Ray was told that it has, in whole CPUs."""
        return int(self.resources.get("CPU", 0))

    @property
    def gpus(self) -> int:
        """The same for GPUs."""
        return int(self.resources.get("GPU", 0))

    @property
    def memory_mib(self) -> int:
        """What Ray leaves to programs; 0 when it does not say."""
        return int(self.resources.get("memory", 0)) >> 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the nodes of a cluster are."""

    cpus: int
    gpus: int
    resource: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, cluster: Mapping[str, Any]) -> Wanted:
        """From a cluster's record, whose options were checked."""
        options = cluster["options"]
        return cls(cluster["cpus"], cluster["gpus"], options.get("resource", ""), parse_labels(options.get("labels")))

    def fits(self, node: RayNode) -> bool:
        """Whether a Ray node may be one of the cluster's."""
        return (
            node.cpus >= self.cpus
            and node.gpus >= self.gpus
            and (not self.resource or node.resources.get(self.resource, 0) > 0)
            and all(node.labels.get(name) == value for name, value in self.labels.items())
        )

    def __str__(self) -> str:
        parts = [f"{self.cpus} CPUs"]
        if self.gpus:
            parts.append(f"{self.gpus} GPUs")
        if self.resource:
            parts.append(f"resource {self.resource}")
        parts += [f"label {name}={value}" for name, value in self.labels.items()]
        return ", ".join(parts)


def parse_labels(text: str | None) -> dict[str, str]:
    """``a=b,c=d`` as a dictionary. Raises ValueError."""
    labels = {}
    for pair in filter(None, (text or "").split(",")):
        name, equals, value = pair.strip().partition("=")
        if not name or not equals:
            raise ValueError(f"labels are written NAME=VALUE,NAME=VALUE; {pair.strip()!r} is not")
        labels[name] = value
    return labels


def free_nodes(nodes: Iterable[RayNode], held: Collection[str], wanted: Wanted) -> list[RayNode]:
    """Those that fit and are not held: idle ones first, then the smallest, as a larger one may fit another cluster."""
    fitting = [node for node in nodes if node.ray_id not in held and wanted.fits(node)]
    return sorted(fitting, key=lambda node: (not node.idle, node.gpus, node.cpus, node.address, node.ray_id))


def shortage(nodes: Sequence[RayNode], held: Collection[str], wanted: Wanted, count: int) -> str:
    """Why there are not so many free nodes, with the numbers, and what to do; empty when there are."""
    free = len(free_nodes(nodes, held, wanted))
    if free >= count:
        return ""
    fitting = sum(map(wanted.fits, nodes))
    if fitting:
        return (
            f"{count} more Ray nodes with {wanted} are needed, and of the {fitting} that there are {free} are free. "
            "Join more with `ray start`, or let the engine ask Ray's autoscaler (autoscale yes)."
        )
    largest = max((node.cpus for node in nodes), default=0)
    return (
        f"None of the {len(nodes)} Ray nodes has {wanted}; the largest has {largest} CPUs. Join such nodes with `ray "
        "start`, choose another VM size, or let the engine ask Ray's autoscaler (autoscale yes)."
    )


def request(wanted: Iterable[Wanted]) -> tuple[list[dict[str, float]], list[dict[str, str]]]:
    """What Ray's autoscaler is to make room for: a bundle for each node that is held or wanted, with its labels."""
    bundles, labels = [], []
    for one in wanted:
        bundle = {"CPU": float(max(one.cpus, 1))}
        if one.gpus:
            bundle["GPU"] = float(one.gpus)
        if one.resource:
            bundle[one.resource] = 1.0
        bundles.append(bundle)
        labels.append(dict(one.labels))
    return bundles, labels
