"""What the daemon makes of what the service says: refusals, and the runners' specs."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from trainshed.engines.local.addresses import RUNNER_PORT
from trainshed.engines.local.layout import Layout
from trainshed.engines.local.leftovers import MARK_VARIABLE
from trainshed.engines.local.record import LocalNode
from trainshed.resources import directories
from trainshed.resources.reasons import Reason
from trainshed.runner.spec import HostSpec, JobIdentity, NodeDirectories, RunnerSpec


class Refused(Exception):
    """The daemon will not do it; asking again without a change is pointless."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.text)
        self.reason = reason


def runner_specs(gang: dict[str, Any], members: list[LocalNode], layout: Layout) -> list[dict[str, Any]]:
    """The runner's file of each node of a gang, in host order, as JSON without the token."""
    hosts = tuple(
        HostSpec(node.node_id, node.host_name, node.address, node.cpus, len(node.gpu_devices)) for node in members
    )
    identity = JobIdentity(
        gang["subscription"],
        gang["resource_group"],
        gang["workspace"],
        gang["experiment"],
        gang["job"],
        gang["job_uid"],
        gang["segment"],
    )
    master_jobs = str(layout.node(members[0].node_id) / "jobs")
    shared = f"{directories.job_temp(master_jobs, identity.workspace, identity.experiment, identity.job)}/shared"
    # Everything that the parts have in common is made once: a code manifest may name thousands of files.
    common = RunnerSpec(
        attempt_id=gang["attempt_id"],
        attempt_number=gang["attempt_number"],
        node_index=0,
        hosts=hosts,
        identity=identity,
        directories=_directories(gang["attempt_id"], 0, members[0], shared, layout),
        properties=gang["properties"],
        wall_clock_seconds=gang["wall_clock_seconds"],
        port=RUNNER_PORT,
        gpu_devices=tuple(",".join(member.gpu_devices) for member in members),
        code_store=gang["code_store"],
        code_manifest=gang["code_manifest"],
        extra_environment={MARK_VARIABLE: layout.mark},
    )
    told = {
        **{part.name: getattr(common, part.name) for part in fields(common)},
        "hosts": [asdict(host) for host in hosts],
        "identity": asdict(identity),
    }
    return [
        {
            **told,
            "node_index": index,
            "directories": asdict(_directories(gang["attempt_id"], index, node, shared, layout)),
        }
        for index, node in enumerate(members)
    ]


def _directories(attempt_id: str, index: int, node: LocalNode, shared: str, layout: Layout) -> NodeDirectories:
    return NodeDirectories(
        mount_root=str(layout.mount_root(node.cluster_uid)),
        job_temp_root=str(layout.node(node.node_id) / "jobs"),
        shared_job_temp=shared,
        state=str(layout.attempt(attempt_id) / str(index)),
    )
