"""A node as the daemon keeps it: what is on disk, what the service is told, and its process while that lives."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import Any

from trainshed.engines.local.messages import Lines
from trainshed.engines.protocol import NodeCondition
from trainshed.resources.reasons import Reason

#: Seconds before a node that died at once is started again; doubles up to the limit.
RESTART_FIRST, RESTART_LIMIT = 0.05, 30.0
#: Deaths in a row before a node is ready after which it is not started again.
START_TRIES = 5

_RECORDED = ("node_id", "cluster_uid", "ordinal", "host_name", "address", "cpus", "memory_mib", "gpu_devices", "boot")


@dataclass(slots=True)
class LocalNode:
    """One node."""

    node_id: str
    cluster_uid: str
    ordinal: int
    host_name: str
    address: str
    cpus: int
    memory_mib: int
    gpu_devices: tuple[str, ...]
    boot: int = 0
    condition: NodeCondition = NodeCondition.PREPARING
    reason: Reason | None = None
    #: Of the node's process; 0 while there is none.
    pid: int = 0
    channel: socket.socket | None = None
    lines: Lines = field(default_factory=Lines)
    removing: bool = False
    #: It cannot start before the service has given the secrets of its setup task again.
    waits_for_secrets: bool = False
    #: It was asked to leave, and writes what its volumes have not written.
    flushing: bool = False
    started_at: float = 0.0
    restart_after: float = RESTART_FIRST
    #: How often in a row its process died before it was ready.
    failed_starts: int = 0
    #: What the node's process said of itself when it came up: which limits and namespaces it could not have.
    facts: dict[str, Any] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """What survives the daemon, as JSON."""
        return {name: getattr(self, name) for name in _RECORDED}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> LocalNode:
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
