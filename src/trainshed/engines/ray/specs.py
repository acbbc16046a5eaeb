"""What the runners of a gang are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from trainshed.engines.local.leftovers import MARK_VARIABLE
from trainshed.engines.ray.held import HeldNode
from trainshed.engines.ray.places import Places
from trainshed.resources import directories
from trainshed.resources.volume_sources import VolumeSource
from trainshed.runner.spec import HostSpec, JobIdentity, NodeDirectories, RunnerSpec

_IDENTITY = ("subscription", "resource_group", "workspace", "experiment", "job", "job_uid", "segment")


def runner_specs(
    gang: dict[str, Any], members: Sequence[HeldNode], places: Places, port: int, code_store: str | None
) -> list[dict[str, Any]]:
    """The runner's file of each node of a gang, in host order, as JSON without the token."""
    hosts = tuple(
        HostSpec(node.node_id, node.host_name, node.address, node.cpus, len(node.gpu_devices)) for node in members
    )
    identity = JobIdentity(*(gang[name] for name in _IDENTITY))
    jobs = places.shared_jobs(members[0].node_id)
    shared = f"{directories.job_temp(str(jobs), identity.workspace, identity.experiment, identity.job)}/shared"
    specs = []
    for index, node in enumerate(members):
        layout = places.node(node.node_id)
        spec = RunnerSpec(
            attempt_id=gang["attempt_id"],
            attempt_number=gang["attempt_number"],
            node_index=index,
            hosts=hosts,
            identity=identity,
            directories=NodeDirectories(
                mount_root=str(places.mount_root(node.cluster_uid)),
                job_temp_root=str(layout.jobs(node.node_id)),
                shared_job_temp=shared,
                state=str(places.part(gang["attempt_id"], index)),
                images=str(layout.images()),
                containers=str(layout.containers(node.node_id)),
                volumes=str(layout.volumes(node.node_id)),
            ),
            properties=gang["properties"],
            wall_clock_seconds=gang["wall_clock_seconds"],
            port=port,
            gpu_devices=tuple(",".join(member.gpu_devices) for member in members),
            code_store=code_store,
            code_manifest=gang["code_manifest"],
            volumes=tuple(map(VolumeSource.from_json, gang["volumes"])),
            cluster_volumes=tuple(map(VolumeSource.from_json, gang["cluster_volumes"])),
            extra_environment={MARK_VARIABLE: layout.mark},
        )
        specs.append(
            {**asdict(spec), "volumes": gang["volumes"], "cluster_volumes": gang["cluster_volumes"], "token": ""}
        )
    return specs
