"""What the daemon makes of what the service says: refusals, and the runners' specs."""

from __future__ import annotations

import os
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from trainshed.engines.local.addresses import RUNNER_PORT
from trainshed.engines.local.layout import Layout
from trainshed.engines.local.leftovers import MARK_VARIABLE
from trainshed.engines.local.record import LocalNode
from trainshed.resources import directories
from trainshed.resources.reasons import Reason
from trainshed.resources.users import JobUser
from trainshed.resources.volume_sources import VolumeSource
from trainshed.runner.spec import HostSpec, JobIdentity, NodeDirectories, RunnerSpec, View


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
    user = JobUser.from_json(gang.get("user"))
    if user is not None:
        # What a stranger sees is mounted where it really is: links on the way there may lead through closed folders.
        layout = Layout(Path(os.path.realpath(layout.home)))
    master_jobs = str(layout.jobs(members[0].node_id))
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
        volumes=tuple(map(VolumeSource.from_json, gang["volumes"])),
        cluster_volumes=tuple(map(VolumeSource.from_json, gang["cluster_volumes"])),
        extra_environment={MARK_VARIABLE: layout.mark},
    )
    told = {
        **{part.name: getattr(common, part.name) for part in fields(common)},
        "hosts": [asdict(host) for host in hosts],
        "identity": asdict(identity),
        "volumes": gang["volumes"],
        "cluster_volumes": gang["cluster_volumes"],
    }
    return [
        {
            **told,
            "node_index": index,
            "directories": asdict(_directories(gang["attempt_id"], index, node, shared, layout)),
            "view": asdict(_view(user, node, master_jobs, layout)) if user else None,
        }
        for index, node in enumerate(members)
    ]


def setup_view(user: JobUser, node: LocalNode, layout: Layout) -> View:
    """What the setup of a node sees, as root of the node: the cluster's directory and a home of its own."""
    layout = Layout(Path(os.path.realpath(layout.home)))
    folder = layout.setup(node.node_id)
    return View(
        user=user,
        hidden=str(layout.home),
        shared=str(layout.mount_root(node.cluster_uid)),
        shown=(str(folder / "home"),),
        private=str(folder),
        shm_mib=_shared_memory(node),
    )


def _view(user: JobUser, node: LocalNode, master_jobs: str, layout: Layout) -> View:
    own_jobs = str(layout.jobs(node.node_id))
    return View(
        user=user,
        hidden=str(layout.home),
        shared=str(layout.mount_root(node.cluster_uid)),
        shown=(own_jobs, *([master_jobs] if master_jobs != own_jobs else [])),
        private=str(layout.private(node.node_id)),
        shm_mib=_shared_memory(node),
    )


def _shared_memory(node: LocalNode) -> int:
    """Half of the node's memory, as the kernel's default is half of the machine's."""
    return node.memory_mib // 2


def _directories(attempt_id: str, index: int, node: LocalNode, shared: str, layout: Layout) -> NodeDirectories:
    return NodeDirectories(
        mount_root=str(layout.mount_root(node.cluster_uid)),
        job_temp_root=str(layout.jobs(node.node_id)),
        shared_job_temp=shared,
        state=str(layout.attempt(attempt_id) / str(index)),
        images=str(layout.images()),
        containers=str(layout.containers(node.node_id)),
        volumes=str(layout.volumes(node.node_id)),
    )
