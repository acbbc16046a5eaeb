"""The columns of each kind of table: those of ``az batchai`` in its order (behaviour section 12), then ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainshed.cli.output import Column
from trainshed.cli.times import ago, size
from trainshed.client.models import (
    Cluster,
    Experiment,
    File,
    FileServer,
    Job,
    Record,
    RemoteLogin,
    ResourceGroup,
    StorageAccount,
    Workspace,
    segment_after,
)

if TYPE_CHECKING:
    from trainshed.client.models import Resource
    from trainshed.client.storage_files import Comparison

WORKSPACES: list[Column[Workspace]] = [
    Column("Name", lambda w: w.name),
    Column("Resource Group", lambda w: w.resource_group),
    Column("Location", lambda w: w.location),
    Column("State", lambda w: w.provisioning_state),
]

GROUPS: list[Column[ResourceGroup]] = [
    Column("Name", lambda g: g.name),
    Column("Location", lambda g: g.location),
    Column("State", lambda g: g.provisioning_state),
]

STORAGE_ACCOUNTS: list[Column[StorageAccount]] = [
    Column("Name", lambda a: a.name),
    Column("Resource Group", lambda a: a.resource_group),
    Column("Location", lambda a: a.location),
    Column("Kind", lambda a: a.kind),
    Column("Created", lambda a: ago(a.created)),
]

STORAGE_KEYS: list[Column[Record]] = [
    Column("Name", lambda k: k.get("keyName")),
    Column("Value", lambda k: k.get("value")),
]

SENT: list[Column[Comparison]] = [
    Column("Place", lambda c: "/".join(part for part in (c.account, c.share, c.path) if part)),
    Column("Files", lambda c: c.files, number=True),
    Column("Size", lambda c: size(c.size), number=True),
    Column("Sent", lambda c: len(c.missing), number=True),
    Column("Sent Size", lambda c: size(c.missing_size), number=True),
    Column("Removed", lambda c: len(c.extra), number=True),
]

#: What is to be done, the path, and the size of what is sent.
PLANNED_FILES: list[Column[tuple[str, str, int | None]]] = [
    Column("Would", lambda row: row[0]),
    Column("Path", lambda row: row[1]),
    Column("Size", lambda row: "" if row[2] is None else size(row[2]), number=True),
]

FILE_SERVERS: list[Column[FileServer]] = [
    Column("Name", lambda s: s.name),
    Column("Resource Group", lambda s: s.resource_group),
    Column("Size", lambda s: s.vm_size),
    Column("Disks", lambda s: s.disks),
    Column("Public IP", lambda s: s.public_address),
    Column("Internal IP", lambda s: s.internal_address),
    Column("Mount Point", lambda s: s.mount_point),
    Column("State", lambda s: s.provisioning_state),
]

USAGES: list[Column[Record]] = [
    Column("Value", lambda u: u.json["name"]["localizedValue"]),
    Column("Usage", lambda u: u.json["currentValue"], number=True),
    Column("Limit", lambda u: u.json["limit"], number=True),
]

EXPERIMENTS: list[Column[Experiment]] = [
    Column("Name", lambda e: e.name),
    Column("Resource Group", lambda e: e.resource_group),
    Column("Workspace", lambda e: e.workspace),
    Column("State", lambda e: e.provisioning_state),
]

CLUSTERS: list[Column[Cluster]] = [
    Column("Name", lambda c: c.name),
    Column("Resource Group", lambda c: c.resource_group),
    Column("Workspace", lambda c: c.workspace),
    Column("VM Size", lambda c: c.vm_size),
    Column("State", lambda c: cluster_state(c)),
    Column("Idle", lambda c: c.nodes_in("idle"), number=True),
    Column("Running", lambda c: c.nodes_in("running"), number=True),
    Column("Preparing", lambda c: c.nodes_in("preparing"), number=True),
    Column("Leaving", lambda c: c.nodes_in("leaving"), number=True),
    Column("Unusable", lambda c: c.nodes_in("unusable"), number=True),
    Column("Engine", lambda c: c.engine),
]

JOBS: list[Column[Job]] = [
    Column("Name", lambda j: j.name),
    Column("Cluster", lambda j: segment_after(j.cluster_id, "clusters")),
    Column("Cluster RG", lambda j: segment_after(j.cluster_id, "resourceGroups")),
    Column("Cluster Workspace", lambda j: segment_after(j.cluster_id, "workspaces")),
    Column("Tool", lambda j: j.tool_type),
    Column("Nodes", lambda j: j.node_count, number=True),
    Column("State", lambda j: _with_dependencies(j)),
    Column("Exit code", lambda j: "" if j.exit_code is None else j.exit_code, number=True),
    Column("Created", lambda j: ago(j.created)),
]

FILES: list[Column[File]] = [
    Column("Name", lambda f: f.name),
    Column("Type", lambda f: "directory" if f.is_directory else "file"),
    Column("Size", lambda f: size(f.size), number=True),
    Column("Modified", lambda f: ago(f.modified)),
]

LOGINS: list[Column[RemoteLogin]] = [
    Column("ID", lambda n: n.node_id),
    Column("IP", lambda n: n.address),
    Column("SSH Port", lambda n: n.port or "", number=True),
]

NODES: list[Column[Record]] = [
    Column("ID", lambda n: n.get("id", "nodeId")),
    Column("State", lambda n: n.get("state")),
    Column("IP", lambda n: n.get("address", "ipAddress")),
    Column("Host name", lambda n: n.get("hostName")),
    Column("SSH Port", lambda n: n.get("sshPort", "port") or "", number=True),
    Column("Reason", lambda n: (n.get("reason") or {}).get("message", "")),
]


def cluster_state(cluster: Cluster) -> str:
    """``deleting`` in place of the allocation state while it is deleted, as the original's table."""
    return _unless_ending(cluster, cluster.allocation_state)


def job_state(job: Job) -> str:
    """``deleting`` in place of the execution state while it is deleted, as the original's table."""
    return _unless_ending(job, job.execution_state.value)


def _with_dependencies(job: Job) -> str:
    number = job.unmet_dependencies
    return f"{job_state(job)} (waits for {number} {'job' if number == 1 else 'jobs'})" if number else job_state(job)


def _unless_ending(resource: Resource, state: str) -> str:
    return resource.provisioning_state if resource.provisioning_state in ("deleting", "failed") else state
