"""Rows for tests: a workspace, an experiment, clusters and jobs, as the API would write them."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import Connection

from trainshed.resources.cluster import engine_of
from trainshed.resources.definition import FILE_SERVER_PASSWORD
from trainshed.resources.lifecycle import AllocationState, ProvisioningState
from trainshed.store import (
    clusters,
    experiments,
    file_servers,
    jobs,
    resource_groups,
    secrets,
    storage_accounts,
    workspaces,
)
from trainshed.store.records import (
    ClusterRecord,
    ExperimentRecord,
    FileServerRecord,
    JobRecord,
    NewJob,
    QueuedJob,
    ResourceGroupRecord,
    StorageAccountRecord,
    WorkspaceRecord,
)

SUBSCRIPTION = "00000000-0000-0000-0000-000000000000"
GROUP_KEY = f"{SUBSCRIPTION}/trainshed"
WORKSPACE_KEY = f"{SUBSCRIPTION}/trainshed/default"
EXPERIMENT_KEY = f"{WORKSPACE_KEY}/exp"


def make_parents(tx: Connection, now: int = 1) -> None:
    """Workspace ``default`` and experiment ``exp``."""
    workspaces.insert(
        tx,
        WorkspaceRecord(
            WORKSPACE_KEY, SUBSCRIPTION, "trainshed", "default", "local", {}, ProvisioningState.SUCCEEDED, now, now, now
        ),
    )
    experiments.insert(
        tx, ExperimentRecord(EXPERIMENT_KEY, WORKSPACE_KEY, "exp", ProvisioningState.SUCCEEDED, now, now, now)
    )


def make_cluster(
    tx: Connection,
    name: str = "c",
    *,
    nodes: int = 2,
    scale: dict[str, Any] | None = None,
    now: int = 1,
    **properties: Any,
) -> ClusterRecord:
    """A cluster that the controller has still to provision."""
    scale = scale or {"manual": {"targetNodeCount": nodes, "nodeDeallocationOption": "requeue"}}
    record = ClusterRecord(
        key=f"{WORKSPACE_KEY}/{name}",
        workspace_key=WORKSPACE_KEY,
        name=name,
        uid=str(uuid.uuid4()),
        pool=clusters.next_pool(tx),
        engine=engine_of(properties),
        vm_size="STANDARD_D1",
        definition={"vmSize": "STANDARD_D1", "vmPriority": "dedicated", "scaleSettings": scale, **properties},
        scale=scale,
        state=ProvisioningState.CREATING,
        state_at=now,
        allocation=AllocationState.RESIZING,
        allocation_at=now,
        errors=(),
        created_at=now,
        modified_at=now,
    )
    clusters.insert(tx, record)
    return record


def make_job(
    tx: Connection,
    cluster: ClusterRecord,
    name: str = "job",
    *,
    nodes: int = 1,
    priority: int = 0,
    command: str = "true",
    wall_clock_seconds: float | None = 3600,
    submitted_by: str | None = None,
    experiment: str = "exp",
    array_id: int | None = None,
    waits_turn: int = 0,
    now: int = 1,
) -> JobRecord:
    """A queued job of a custom command."""
    experiment_key = f"{WORKSPACE_KEY}/{experiment}"
    uid = str(uuid.uuid4())
    return jobs.insert(
        tx,
        NewJob(
            key=f"{experiment_key}/{name}",
            experiment_key=experiment_key,
            workspace_key=WORKSPACE_KEY,
            cluster_key=cluster.key,
            cluster_uid=cluster.uid,
            name=name,
            uid=uid,
            segment=f"{SUBSCRIPTION}/trainshed/workspaces/default/experiments/{experiment}/jobs/{name}/{uid}",
            priority=priority,
            node_count=nodes,
            tool_type="custom",
            definition={
                "nodeCount": nodes,
                "customToolkitSettings": {"commandLine": command},
                "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/logs",
            },
            wall_clock_seconds=wall_clock_seconds,
            created_at=now,
            submitted_by=submitted_by,
            array_id=array_id,
            waits_turn=waits_turn,
        ),
    )


def make_group(tx: Connection, now: int = 1) -> ResourceGroupRecord:
    """Resource group ``trainshed``, which the parents are in."""
    record = ResourceGroupRecord(
        GROUP_KEY, SUBSCRIPTION, "trainshed", "local", {}, ProvisioningState.SUCCEEDED, now, now, now
    )
    resource_groups.insert(tx, record)
    return record


def make_account(tx: Connection, name: str = "mydata", now: int = 1) -> StorageAccountRecord:
    """A storage account of group ``trainshed`` with sealed keys."""
    record = StorageAccountRecord(
        name,
        str(uuid.uuid4()),
        GROUP_KEY,
        SUBSCRIPTION,
        "trainshed",
        "local",
        "StorageV2",
        "Standard_LRS",
        {},
        now,
        now,
    )
    storage_accounts.insert(tx, record)
    secrets.put(tx, record.uid, {"/keys/key1": b"sealed"})
    return record


def make_file_server(tx: Connection, name: str = "nfs", now: int = 1) -> FileServerRecord:
    """A file server that the controller has still to provision."""
    record = FileServerRecord(
        key=f"{WORKSPACE_KEY}/{name}",
        workspace_key=WORKSPACE_KEY,
        name=name,
        uid=str(uuid.uuid4()),
        definition={
            "vmSize": "STANDARD_D1",
            "sshConfiguration": {"userAccountSettings": {"adminUserName": "demo"}},
            "dataDisks": {"diskSizeInGB": 10, "diskCount": 2, "storageAccountType": "Standard_LRS"},
        },
        mount_settings=None,
        state=ProvisioningState.CREATING,
        state_at=now,
        created_at=now,
        modified_at=now,
    )
    file_servers.insert(tx, record)
    secrets.put(tx, record.uid, {FILE_SERVER_PASSWORD: b"sealed"})
    return record


def waiting_in(tx: Connection, cluster: ClusterRecord, first: int = 9, now: int = 1) -> list[QueuedJob]:
    """The cluster's queue as it is at ``now``, read in pages that begin with ``first`` jobs."""
    return list(jobs.walk(tx, cluster.uid, now=now, max_nodes=1_000_000, first=first))
