"""From rows to what an engine is given: a gang's specification, a cluster's specification."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection

from trainshed.control.settings import ControlSettings
from trainshed.engines.protocol import ClusterSpec, GangSpec
from trainshed.resources.definition import job_secret_environment, setup_secret_environment
from trainshed.resources.vmsizes import find_size
from trainshed.store import code, secrets
from trainshed.store.records import AttemptRecord, ClusterRecord, JobRecord

#: Opens a sealed secret; the context (its owner's uid) must be the one that it was sealed with.
Unseal = Callable[[bytes, str], str]


def opened_secrets(tx: Connection, owner_uid: str, unseal: Unseal) -> dict[str, str]:
    """All secrets of a job or cluster by path, in clear. In memory only."""
    return {path: unseal(sealed, owner_uid) for path, sealed in secrets.get(tx, owner_uid).items()}


def gang_spec(
    tx: Connection, job: JobRecord, attempt: AttemptRecord, settings: ControlSettings, unseal: Unseal
) -> GangSpec:
    """All that the engine needs to start this attempt."""
    # {subscription}/{group}/workspaces/{workspace}/experiments/{experiment}/jobs/{job}/{uid}: names in their own case.
    subscription, group, _, workspace, _, experiment, *_ = job.segment.split("/")
    values = opened_secrets(tx, job.uid, unseal) if job.definition.get("secrets") else {}
    manifest = code.get_snapshot(tx, job.code_snapshot) if job.code_snapshot else None
    return GangSpec(
        attempt_id=attempt.id,
        attempt_number=attempt.number,
        cluster_uid=attempt.cluster_uid,
        node_ids=attempt.node_ids,
        subscription=subscription,
        resource_group=group,
        workspace=workspace,
        experiment=experiment,
        job=job.name,
        job_uid=job.uid,
        segment=job.segment,
        properties=job.definition,
        secrets=job_secret_environment(job.definition, values),
        wall_clock_seconds=job.wall_clock_seconds,
        code_store=settings.code_store if manifest is not None else None,
        code_manifest=manifest,
    )


def cluster_spec(tx: Connection, cluster: ClusterRecord, settings: ControlSettings, unseal: Unseal) -> ClusterSpec:
    """All that the engine needs to know of this cluster."""
    size = find_size(cluster.vm_size, settings.local_sizes)
    setup = cluster.definition.get("nodeSetup")
    values = opened_secrets(tx, cluster.uid, unseal) if setup else {}
    return ClusterSpec(
        uid=cluster.uid,
        name=cluster.name,
        pool=cluster.pool,
        low_priority=cluster.definition.get("vmPriority") == "lowpriority",
        vm_size=cluster.vm_size,
        cpus=size.cores if size else 1,
        memory_mib=size.memory_mib if size else 0,
        gpus=size.gpus if size else 0,
        node_setup=setup,
        setup_suffix=((setup or {}).get("setupTask") or {}).get("stdOutErrPathSuffix", ""),
        setup_secrets=setup_secret_environment(cluster.definition, values),
    )
