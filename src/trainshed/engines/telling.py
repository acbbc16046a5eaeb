"""Specs and statuses as JSON, for engines whose nodes are kept by another process than the service's."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from trainshed.engines.protocol import GangResult, GangSpec, GangStatus, NodeCondition, NodeStatus
from trainshed.resources.reasons import Reason

_GANG_FIELDS = (
    "attempt_id",
    "attempt_number",
    "node_ids",
    "subscription",
    "resource_group",
    "workspace",
    "experiment",
    "job",
    "job_uid",
    "segment",
    "properties",
    "wall_clock_seconds",
    "code_store",
    "code_manifest",
)


def gang_message(gang: GangSpec) -> dict[str, Any]:
    """What a request to start it says; secrets stand beside the spec, which may be kept on disk."""
    spec = {name: getattr(gang, name) for name in _GANG_FIELDS}
    spec["user"] = asdict(gang.user) if gang.user else None
    spec["volumes"] = [source.to_json() for source in gang.volumes]
    spec["cluster_volumes"] = [source.to_json() for source in gang.cluster_volumes]
    return {"gang": spec, "secrets": gang.secrets, "private": gang.private}


def gang_status(told: dict[str, Any]) -> GangStatus:
    """Read what was told of a gang. Without ``result`` it is alive."""
    if "result" not in told:
        return GangStatus(told["attempt_id"])
    return GangStatus(
        attempt_id=told["attempt_id"],
        result=GangResult(told["result"]),
        exit_code=told["exit_code"],
        reason=_reason(told),
        ended_at=told["ended_at"],
        container=told.get("container"),
    )


def node_status(told: dict[str, Any]) -> NodeStatus:
    """Read what was told of a node."""
    return NodeStatus(
        node_id=told["node_id"],
        cluster_uid=told["cluster_uid"],
        condition=NodeCondition(told["condition"]),
        boot=told["boot"],
        host_name=told["host_name"],
        address=told["address"],
        ssh_port=told["ssh_port"],
        reason=_reason(told),
    )


def _reason(told: dict[str, Any]) -> Reason | None:
    return Reason.from_json(told["reason"]) if told["reason"] else None
