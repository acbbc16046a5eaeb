"""A node of Trainshed on Ray: the claim on one of Ray's nodes, as it is on disk and as it is told."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from trainshed.engines.protocol import NodeCondition
from trainshed.resources.reasons import Reason

_RECORDED = (
    "node_id",
    "cluster_uid",
    "ordinal",
    "host_name",
    "ray_id",
    "address",
    "cpus",
    "memory_mib",
    "gpu_devices",
    "boot",
)


@dataclass(slots=True, eq=False)
class HeldNode:
    """One node. ``ray_id`` is empty while there is no node of Ray for it."""

    node_id: str
    cluster_uid: str
    ordinal: int
    host_name: str
    ray_id: str = ""
    address: str = ""
    cpus: int = 0
    memory_mib: int = 0
    gpu_devices: tuple[str, ...] = ()
    boot: int = 0
    condition: NodeCondition = NodeCondition.PREPARING
    reason: Reason | None = None
    removing: bool = False
    #: Its agent, while it has one; and which warden it last heard of.
    agent: Any = None
    run: str = ""
    #: The agent, while Ray is asked to make it.
    coming: asyncio.Future[Any] | None = None
    task: asyncio.Task[None] | None = None
    #: Held while a message is on its way to the agent.
    line: asyncio.Lock = field(default_factory=asyncio.Lock)
    #: The first state of its warden has come, or it is clear that none will.
    known: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_gone(self) -> bool:
        """Its Ray node has ended, and it stays only until it is removed; ``reason`` says how."""
        return self.condition in (NodeCondition.EVICTED, NodeCondition.LOST)

    def record(self) -> dict[str, Any]:
        """What survives the bridge, as JSON."""
        return {name: getattr(self, name) for name in _RECORDED}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> HeldNode:
        """Read what ``record`` gave."""
        return cls(**{**record, "gpu_devices": tuple(record["gpu_devices"])})

    def status(self) -> dict[str, Any]:
        """As sent to the service."""
        return {
            "node_id": self.node_id,
            "cluster_uid": self.cluster_uid,
            "condition": self.condition.value,
            "boot": self.boot,
            "host_name": self.host_name,
            "address": self.address,
            "ssh_port": None,
            "reason": self.reason.to_json() if self.reason else None,
        }
