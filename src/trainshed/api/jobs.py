"""Jobs: submitted, watched, terminated, deleted. An accepted job is on disk, with its secrets sealed."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import Connection
from starlette.responses import Response

from trainshed.api import first_use, lro, quota
from trainshed.api.answers import JSON, entity, warning
from trainshed.api.call import Call
from trainshed.api.dependencies import look_up, make_wait, require_jobs
from trainshed.api.differences import differing
from trainshed.api.errors import ApiError, being_deleted, conflict, not_found, parent_not_found
from trainshed.api.experiments import required as required_experiment
from trainshed.api.lookup import find
from trainshed.api.members import original_job
from trainshed.api.mounted import check_file_servers
from trainshed.api.paging import page, page_request
from trainshed.api.references import unresolved
from trainshed.api.uses import require_cluster, require_file_servers
from trainshed.api.workspaces import begin_for
from trainshed.api.workspaces import required as required_workspace
from trainshed.resources import parsing
from trainshed.resources.definition import definition, secrets_of
from trainshed.resources.directories import segment
from trainshed.resources.ids import Kind, cluster_key_of
from trainshed.resources.job import PRIORITIES, JobCreate
from trainshed.resources.lifecycle import (
    JOB,
    JobState,
    OperationVerb,
    ProvisioningState,
)
from trainshed.resources.times import duration_seconds
from trainshed.resources.toolsettings import tool_type_of
from trainshed.resources.views import Json, job_view
from trainshed.resources.vmsizes import find_size
from trainshed.store import clusters, code, experiments, jobs, secrets, workspaces
from trainshed.store.records import (
    ClusterRecord,
    ExperimentRecord,
    JobRecord,
    NewJob,
    OperationRecord,
    WorkspaceRecord,
)


async def create(call: Call) -> Response:
    """PUT: 202 for a new job. Again: 200 with the job as it is, never run a second time; a different one is refused.

    An absent parent is 404 ParentResourceNotFound; an absent cluster is 400 ClusterNotFound, since the path is right
    and the body is not. More nodes than the cluster can have are no error: the job waits, with that reason.
    """
    key, name = call.job_key, call.name("job")
    body = await call.body()
    parsed = parsing.parse_job(body, call.version)
    wanted, values = definition(parsed.model), secrets_of(parsed.model)
    require_cluster(call, wanted["cluster"]["id"])
    require_file_servers(call, wanted.get("mountVolumes"))
    depends_on = parsed.model.properties.depends_on
    require_jobs(call, depends_on)
    problem = await unresolved(call, wanted)
    now, submitter = call.now(), call.caller.id

    places: tuple[first_use.Place, ...] = ()

    def store(tx: Connection) -> OperationRecord | JobRecord:
        nonlocal places
        existing = find(jobs.get, tx, key)
        if existing is not None:
            return _same_job(existing, wanted, newer=call.newer)
        workspace, experiment = open_parents(tx, call)
        cluster = open_cluster(tx, wanted["cluster"]["id"])
        _check_against_stored(tx, call, parsed.model, cluster, workspace.user_number, body)
        if problem is not None:
            raise problem
        others = look_up(tx, call, depends_on)
        quota.check_job(call, cluster.key.partition("/")[0], cluster, wanted["nodeCount"])
        volumes = wanted.get("mountVolumes")
        check_file_servers(tx, volumes, "properties.mountVolumes")
        places = first_use.places_of(tx, call.services.vault, volumes, values, "/mountVolumes")
        new = new_job(workspace, experiment, cluster, key, name, wanted, submitter, now)
        make_wait(tx, jobs.insert(tx, new).id, others, now)
        if values:
            vault = call.services.vault
            secrets.put(tx, new.uid, {path: vault.seal_text(value, new.uid) for path, value in values.items()})
        # A job exists as soon as it is stored: its creation is done, and only told as the contract tells it.
        return begin_for(tx, workspace, OperationVerb.CREATE_JOB, key, now, experiment.name, name, done=True)

    stored = await call.write(store, queue_only=True)
    if isinstance(stored, OperationRecord):
        await first_use.make(call, places)
        return lro.accepted(call, stored, warning(parsed.ignored))
    return entity(_with_attempt(stored) if call.newer else view(stored), stored.modified_at, parsed.ignored)


async def get(call: Call) -> Response:
    """GET one. In 2026-11-01 a queued job says why it waits."""
    key = call.job_key

    def query(tx: Connection) -> tuple[JobRecord, Json]:
        record = required(tx, call, key)
        return record, view(record, newer_members(tx, call, record) if call.newer else None)

    record, shown = await call.read(query)
    return entity(shown, record.modified_at)


async def list_in_experiment(call: Call) -> Response:
    """GET those of an experiment, in order of submission. Why a job waits is told by GET of the job."""
    key, name = call.experiment_key, call.name("experiment")
    asked = page_request(call)

    def query(tx: Connection) -> bytes:
        required_workspace(tx, call.workspace_key, call.name("workspace"))
        required_experiment(tx, key, name)
        rows = jobs.page(tx, key, asked.after_number(), asked.one_more)
        shown = _with_attempt if call.newer else view
        return page(call, asked, rows, shown, lambda record: record.id)

    return Response(await call.read(query), media_type=JSON)


async def terminate(call: Call) -> Response:
    """POST: 202 while there is something to stop; 200 and empty for a job that has ended."""
    key = call.job_key
    now = call.now()

    def store(tx: Connection) -> OperationRecord | None:
        record = required(tx, call, key)
        if record.execution in JOB.final:
            return None
        if record.execution is not JobState.TERMINATING:
            jobs.request_termination(tx, record.id, now)
        return _begin(tx, call, record, OperationVerb.TERMINATE_JOB, now)

    operation = await call.write(store, queue_only=True)
    return Response(status_code=200) if operation is None else lro.accepted(call, operation)


async def delete(call: Call) -> Response:
    """DELETE: the controller stops it if it runs, then forgets it. Its files stay where they are."""
    key = call.job_key
    now = call.now()

    def store(tx: Connection) -> OperationRecord | None:
        record = find(jobs.get, tx, key)
        if record is None:
            return None
        if record.state is not ProvisioningState.DELETING:
            jobs.request_deletion(tx, record.id, now)
        return _begin(tx, call, record, OperationVerb.DELETE_JOB, now)

    operation = await call.write(store, queue_only=True)
    return Response(status_code=204) if operation is None else lro.accepted(call, operation)


def required(tx: Connection, call: Call, key: str) -> JobRecord:
    """The job. Raises ApiError 404, which names the first thing of the path that is absent."""
    record = find(jobs.get, tx, key)
    if record is None:
        required_workspace(tx, call.workspace_key, call.name("workspace"))
        required_experiment(tx, call.experiment_key, call.name("experiment"))
        raise not_found(Kind.JOB, call.name("job"))
    return record


def view(record: JobRecord, extra: Json | None = None) -> Json:
    """The job's JSON. Its parents' names, in the case in which they were given, are in its path segment.

    ``extra`` are the newer version's own members; without them the answer is the original contract's.
    """
    definition = original_job(record.definition) if extra is None else record.definition
    subscription, group, _, workspace, _, experiment, *_ = record.segment.split("/")
    return job_view(
        subscription=subscription,
        resource_group=group,
        workspace=workspace,
        experiment=experiment,
        name=record.name,
        definition=definition,
        tool_type=tool_type_of(record.definition),
        segment=record.segment,
        state=record.state.value,
        state_at=record.state_at,
        execution_state=record.execution.value,
        execution_at=record.execution_at,
        created_at=record.created_at,
        started_at=record.started_at,
        ended_at=record.ended_at,
        exit_code=record.exit_code,
        errors=[reason.to_batchai_error() for reason in record.errors],
        extra=extra,
    )


def _with_attempt(record: JobRecord) -> Json:
    return view(record, _counts(record))


def _counts(record: JobRecord) -> Json:
    retries = {"retries": record.retries} if "retryPolicy" in record.definition else {}
    preemptions = {"preemptions": record.preemptions} if record.preemptions else {}
    unmet = record.blocked - record.waits_turn
    waits = {"unmetDependencies": unmet} if unmet else {}
    return {"attempt": record.attempts, **retries, **preemptions, **waits, **_array(record)}


def _array(record: JobRecord) -> Json:
    """Of which array it is, and its index there."""
    if record.array_id is None:
        return {}
    name, _, index = record.name.rpartition("-")
    return {"jobArray": {"name": name, "index": int(index)}}


def newer_members(tx: Connection, call: Call, record: JobRecord) -> Json:
    """What GET of the job has beyond the original contract."""
    extra = _counts(record)
    if record.execution is JobState.QUEUED:
        extra["whyWaiting"] = call.services.explain(tx, record).to_batchai_error()
        if record.requeue_reason is not None:
            extra["requeueReason"] = record.requeue_reason.to_batchai_error()
    return extra


def _same_job(existing: JobRecord, wanted: dict[str, Any], *, newer: bool) -> JobRecord:
    if existing.state is ProvisioningState.DELETING:
        raise being_deleted(Kind.JOB, existing.name)
    differences = differing(existing.definition if newer else original_job(existing.definition), wanted)
    if differences:
        raise conflict(
            Kind.JOB,
            existing.name,
            differences,
            "A job cannot be changed after it was submitted. Use another name, or delete the job first.",
        )
    return existing


def open_parents(tx: Connection, call: Call) -> tuple[WorkspaceRecord, ExperimentRecord]:
    """The workspace and the experiment of the path. Raises ApiError 404, or 409 when one is being deleted."""
    workspace = find(workspaces.get, tx, call.workspace_key)
    if workspace is None:
        raise parent_not_found(Kind.WORKSPACE, call.name("workspace"))
    if workspace.state is ProvisioningState.DELETING:
        raise being_deleted(Kind.WORKSPACE, workspace.name)
    experiment = find(experiments.get, tx, call.experiment_key)
    if experiment is None:
        raise parent_not_found(Kind.EXPERIMENT, call.name("experiment"))
    if experiment.state is ProvisioningState.DELETING:
        raise being_deleted(Kind.EXPERIMENT, experiment.name)
    return workspace, experiment


def open_cluster(tx: Connection, cluster_id: str) -> ClusterRecord:
    """The cluster of this id. Raises ApiError 400 when there is none, 409 when it is being deleted."""
    cluster = find(clusters.get, tx, cluster_key_of(cluster_id))
    if cluster is None:
        raise ApiError(
            400,
            "ClusterNotFound",
            f"Job.Properties.Cluster.Id: the cluster '{cluster_id}' does not exist. Create the cluster first, or give "
            "the id of one that exists (GET .../workspaces/{workspace}/clusters lists them).",
            target="properties.cluster.id",
        )
    if cluster.state is ProvisioningState.DELETING:
        raise being_deleted(Kind.CLUSTER, cluster.name)
    return cluster


def _check_against_stored(
    tx: Connection, call: Call, model: JobCreate, cluster: ClusterRecord, workspace_number: int, body: bytes
) -> None:
    """What only the cluster's size and the uploaded code can tell."""
    size = find_size(cluster.vm_size, call.services.local_sizes)
    counted = model.properties.tensor_flow_settings is not None or model.properties.gpus_per_process is not None
    if counted and size is not None:
        parsing.parse_job(body, call.version, gpus_per_node=size.gpus)
    check_code(tx, model.properties.code_snapshot, workspace_number)


def check_code(tx: Connection, snapshot: str | None, workspace_number: int) -> None:
    """Raises ApiError 400 when the code was not uploaded."""
    if snapshot is not None and code.get_snapshot(tx, workspace_number, snapshot) is None:
        raise ApiError(
            400,
            "CodeSnapshotNotFound",
            f"Job.Properties.CodeSnapshot: the code snapshot '{snapshot}' was not uploaded. Upload the code first "
            "(PUT .../workspaces/{workspace}/code/snapshots/{id}).",
            target="properties.codeSnapshot",
        )


def new_job(
    workspace: WorkspaceRecord,
    experiment: ExperimentRecord,
    cluster: ClusterRecord,
    key: str,
    name: str,
    wanted: dict[str, Any],
    submitter: str,
    now: int,
    array_id: int | None = None,
    waits_turn: int = 0,
) -> NewJob:
    """A row for the job, with a uid of its own."""
    uid = str(uuid.uuid4())
    return NewJob(
        key=key,
        experiment_key=experiment.key,
        workspace_key=workspace.key,
        cluster_key=cluster.key,
        cluster_uid=cluster.uid,
        name=name,
        uid=uid,
        segment=segment(workspace.subscription, workspace.resource_group, workspace.name, experiment.name, name, uid),
        priority=PRIORITIES[wanted["schedulingPriority"]],
        node_count=wanted["nodeCount"],
        tool_type=tool_type_of(wanted),
        definition=wanted,
        wall_clock_seconds=duration_seconds(wanted["constraints"]["maxWallClockTime"]),
        created_at=now,
        code_snapshot=wanted.get("codeSnapshot"),
        submitted_by=submitter,
        array_id=array_id,
        waits_turn=waits_turn,
    )


def _begin(tx: Connection, call: Call, record: JobRecord, verb: OperationVerb, now: int) -> OperationRecord:
    workspace = required_workspace(tx, call.workspace_key, call.name("workspace"))
    experiment = record.segment.split("/")[5]
    return begin_for(tx, workspace, verb, record.key, now, experiment, record.name)
