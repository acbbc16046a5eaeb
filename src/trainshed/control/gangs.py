"""From rows to what an engine is given: a gang's specification, a cluster's specification, and their locked secrets."""

from __future__ import annotations

from sqlalchemy import Connection

from trainshed.control.actions import ClusterPlan, StartGang
from trainshed.control.locked import locked
from trainshed.control.settings import ControlSettings
from trainshed.control.volumes import resolved
from trainshed.engines.protocol import ClusterSpec, GangSpec
from trainshed.resources.cluster import engine_options
from trainshed.resources.engines import DEFAULT_ENGINE
from trainshed.resources.vmsizes import find_size
from trainshed.resources.volume_sources import VolumeSource, volume_sources
from trainshed.scheduling.scaling import largest_size
from trainshed.store import clusters, code, principals, workspaces
from trainshed.store.errors import or_none
from trainshed.store.records import AttemptRecord, ClusterRecord, JobRecord


def start_of(tx: Connection, job: JobRecord, attempt: AttemptRecord, settings: ControlSettings) -> StartGang:
    """All that the engine needs to start this attempt, its secrets still locked."""
    sealed = any(job.definition.get(member) for member in ("secrets", "mountVolumes", "containerSettings"))
    volumes, accounts = resolved(
        tx,
        job.definition.get("mountVolumes"),
        "/mountVolumes",
        settings.home,
        settings.storage_endpoints,
        settings.host_directories,
    )
    return StartGang(
        _gang_spec(tx, job, attempt, settings, volumes),
        locked(tx, job.uid, job.workspace_key, job.definition, accounts, sealed=sealed),
    )


def plan_of(tx: Connection, cluster: ClusterRecord, settings: ControlSettings) -> ClusterPlan:
    """All that the engine needs to know of this cluster, its secrets still locked."""
    setup = cluster.definition.get("nodeSetup")
    volumes, accounts = resolved(
        tx,
        (setup or {}).get("mountVolumes"),
        "/nodeSetup/mountVolumes",
        settings.home,
        settings.storage_endpoints,
        settings.host_directories,
    )
    return ClusterPlan(
        _cluster_spec(tx, cluster, settings, volumes),
        locked(tx, cluster.uid, cluster.workspace_key, cluster.definition, accounts, sealed=bool(setup)),
    )


def _gang_spec(
    tx: Connection, job: JobRecord, attempt: AttemptRecord, settings: ControlSettings, volumes: tuple[VolumeSource, ...]
) -> GangSpec:
    # {subscription}/{group}/workspaces/{workspace}/experiments/{experiment}/jobs/{job}/{uid}: names in their own case.
    subscription, group, _, workspace, _, experiment, *_ = job.segment.split("/")
    number = workspaces.get(tx, job.workspace_key).user_number
    manifest = code.get_snapshot(tx, number, job.code_snapshot) if job.code_snapshot else None
    cluster = or_none(clusters.get, tx, job.cluster_key)
    if cluster is not None and cluster.uid != attempt.cluster_uid:
        cluster = None  # Another one of that name.
    return GangSpec(
        attempt_id=attempt.id,
        attempt_number=attempt.number,
        cluster_uid=attempt.cluster_uid,
        node_ids=() if attempt.handed_over else attempt.node_ids,
        subscription=subscription,
        resource_group=group,
        workspace=workspace,
        experiment=experiment,
        job=job.name,
        job_uid=job.uid,
        segment=job.segment,
        properties=job.definition,
        secrets={},
        wall_clock_seconds=job.wall_clock_seconds,
        code_store=str(settings.home / code.directory(number)) if settings.home and manifest is not None else None,
        code_manifest=manifest,
        volumes=volumes,
        cluster_volumes=_cluster_volumes(cluster),
        user=settings.job_user(tx, number),
        node_count=job.node_count,
        priority=job.priority,
        cluster=cluster.name if cluster is not None else "",
        engine=cluster.engine if cluster is not None else DEFAULT_ENGINE,
        submitter=_submitter(tx, job),
    )


def _submitter(tx: Connection, job: JobRecord) -> str:
    user = or_none(principals.get, tx, job.submitted_by) if job.submitted_by else None
    return user.name if user is not None else ""


def _cluster_volumes(cluster: ClusterRecord | None) -> tuple[VolumeSource, ...]:
    if cluster is None:
        return ()
    return tuple(volume_sources((cluster.definition.get("nodeSetup") or {}).get("mountVolumes"), ""))


def _cluster_spec(
    tx: Connection, cluster: ClusterRecord, settings: ControlSettings, volumes: tuple[VolumeSource, ...]
) -> ClusterSpec:
    size = find_size(cluster.vm_size, settings.local_sizes)
    setup = cluster.definition.get("nodeSetup")
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
        volumes=volumes,
        user=settings.job_user(tx, workspaces.get(tx, cluster.workspace_key).user_number),
        engine=cluster.engine,
        options=engine_options(cluster.definition),
        max_nodes=largest_size(cluster.scale),
    )
