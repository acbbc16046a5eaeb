"""2026-11-01: job arrays. One PUT makes a job for each index, in one transaction; they are jobs like any other."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection
from starlette.responses import Response

from trainshed.api import first_use, quota
from trainshed.api.answers import JSON, answer
from trainshed.api.call import Call
from trainshed.api.dependencies import look_up, make_wait, require_jobs
from trainshed.api.differences import differing
from trainshed.api.errors import ApiError
from trainshed.api.experiments import required as required_experiment
from trainshed.api.jobs import check_code, new_job, open_cluster, open_parents
from trainshed.api.lookup import find
from trainshed.api.mounted import check_file_servers
from trainshed.api.paging import page, page_request
from trainshed.api.references import unresolved
from trainshed.api.uses import require_cluster, require_file_servers
from trainshed.api.workspaces import required as required_workspace
from trainshed.resources import ids, parsing
from trainshed.resources.definition import definition, secrets_of
from trainshed.resources.job_array import check_array_name, indices_of, member_definition, member_name
from trainshed.resources.lifecycle import JOB, JobState, ProvisioningState
from trainshed.resources.times import format_time
from trainshed.resources.views import Json, job_array_view
from trainshed.resources.vmsizes import find_size
from trainshed.store import job_arrays, jobs, secrets
from trainshed.store.errors import or_none
from trainshed.store.records import ClusterRecord, JobArrayRecord

#: Most conditions on other jobs that all jobs of an array have together.
MAX_CONDITIONS = 10_000


async def create(call: Call) -> Response:
    """PUT: all its jobs, or none. Again: the array as it is; a different one is refused."""
    key, name = _key(call), call.name("array")
    body = await call.body()
    parsed = parsing.parse_job_array(body)
    wanted, values = definition(parsed), secrets_of(parsed)
    indices = indices_of(wanted)
    check_array_name(name, indices)
    require_cluster(call, wanted["cluster"]["id"])
    require_file_servers(call, wanted.get("mountVolumes"))
    depends_on = parsed.properties.depends_on
    require_jobs(call, depends_on)
    problem = await unresolved(call, wanted)
    now = call.now()
    places: tuple[first_use.Place, ...] = ()

    def store(tx: Connection) -> Json:
        nonlocal places
        existing = find(job_arrays.get, tx, key)
        if existing is not None:
            return _same(tx, call, existing, wanted)
        workspace, experiment = open_parents(tx, call)
        cluster = open_cluster(tx, wanted["cluster"]["id"])
        _check_gpus(call, parsed.properties, cluster, body)
        check_code(tx, parsed.properties.code_snapshot, workspace.user_number)
        if problem is not None:
            raise problem
        others = look_up(tx, call, depends_on)
        if len(others) * len(indices) > MAX_CONDITIONS:
            raise ApiError(
                400,
                "TooManyDependencies",
                f"Job.Properties.DependsOn: {len(indices)} jobs would wait for {len(others)} each. At most "
                f"{MAX_CONDITIONS} conditions are kept for an array: let one job wait for the others, and the array "
                "for that one.",
                target="properties.dependsOn",
            )
        quota.check_job(call, cluster.key.partition("/")[0], cluster, wanted["nodeCount"])
        volumes = wanted.get("mountVolumes")
        check_file_servers(tx, volumes, "properties.mountVolumes")
        places = first_use.places_of(tx, call.services.vault, volumes, values, "/mountVolumes")
        limit = wanted["array"].get("maxRunning")
        array = job_arrays.insert(
            tx, key=key, experiment_key=experiment.key, name=name, definition=wanted, limit=limit, now=now
        )
        for place, index in enumerate(indices):
            member = member_name(name, index)
            member_key = ids.job_key(experiment.key, member)
            if or_none(jobs.get, tx, member_key) is not None:
                raise _taken(member)
            own = member_definition(wanted, name, index, len(indices))
            in_line = int(limit is not None and place >= limit)
            new = new_job(
                workspace, experiment, cluster, member_key, member, own, call.caller.id, now, array.id, in_line
            )
            record = jobs.insert(tx, new)
            if values:
                vault = call.services.vault
                secrets.put(tx, new.uid, {path: vault.seal_text(value, new.uid) for path, value in values.items()})
            make_wait(tx, record.id, others, now)
        return _view(tx, call, array)

    shown = await call.write(store, queue_only=True)
    await first_use.make(call, places)
    return answer(shown)


async def get(call: Call) -> Response:
    """GET one, with how many of its jobs are in which state."""
    return answer(await call.read(lambda tx: _view(tx, call, _required(tx, call))))


async def list_in_experiment(call: Call) -> Response:
    """GET those of an experiment, in order of submission."""
    key, name = call.experiment_key, call.name("experiment")
    asked = page_request(call)

    def query(tx: Connection) -> bytes:
        required_workspace(tx, call.workspace_key, call.name("workspace"))
        required_experiment(tx, key, name)
        rows = job_arrays.page(tx, key, asked.after_number(), asked.one_more)
        return page(call, asked, rows, lambda record: _view(tx, call, record), lambda record: record.id)

    return Response(await call.read(query), media_type=JSON)


async def terminate(call: Call) -> Response:
    """POST: those of its jobs that have not ended are to stop; 200 at once, with where they stand."""
    now = call.now()

    def store(tx: Connection) -> Json:
        array = _required(tx, call)
        for job in job_arrays.members(tx, array.id):
            if job.execution not in JOB.final and job.execution is not JobState.TERMINATING:
                jobs.request_termination(tx, job.id, now)
        return _view(tx, call, array)

    return answer(await call.write(store, queue_only=True))


async def delete(call: Call) -> Response:
    """DELETE: it is forgotten at once; its jobs are stopped if they run, then forgotten. 204 when it is not there."""
    key, now = _key(call), call.now()

    def store(tx: Connection) -> bool:
        array = find(job_arrays.get, tx, key)
        if array is None:
            return False
        for job in job_arrays.members(tx, array.id):
            if job.state is not ProvisioningState.DELETING:
                jobs.request_deletion(tx, job.id, now)
        job_arrays.delete(tx, array.id)
        return True

    return Response(status_code=200 if await call.write(store, queue_only=True) else 204)


def _key(call: Call) -> str:
    return ids.job_key(call.experiment_key, call.name("array"))


def _required(tx: Connection, call: Call) -> JobArrayRecord:
    record = find(job_arrays.get, tx, _key(call))
    if record is None:
        required_workspace(tx, call.workspace_key, call.name("workspace"))
        required_experiment(tx, call.experiment_key, call.name("experiment"))
        raise ApiError(404, "JobArrayNotFound", f"The specified job array {call.name('array')} is not found")
    return record


def _same(tx: Connection, call: Call, existing: JobArrayRecord, wanted: dict[str, Any]) -> Json:
    differences = differing(existing.definition, wanted)
    if differences:
        raise ApiError(
            409,
            "Conflict",
            f"The job array '{existing.name}' exists and differs in {', '.join(differences)}. An array cannot be "
            "changed after it was submitted. Use another name, or delete it first.",
        )
    return _view(tx, call, existing)


def _taken(member: str) -> ApiError:
    return ApiError(
        409,
        "Conflict",
        f"The array needs the name '{member}' for one of its jobs, and there is a job of that name. Use another name "
        "for the array, or delete that job first.",
    )


def _check_gpus(call: Call, properties: Any, cluster: ClusterRecord, body: bytes) -> None:
    """What only the cluster's size can tell."""
    size = find_size(cluster.vm_size, call.services.local_sizes)
    counted = properties.tensor_flow_settings is not None or properties.gpus_per_process is not None
    if counted and size is not None:
        parsing.parse_job_array(body, gpus_per_node=size.gpus)


def _view(tx: Connection, call: Call, record: JobArrayRecord) -> Json:
    counts = job_arrays.counts(tx, record.id)
    return job_array_view(
        subscription=call.subscription,
        resource_group=call.group,
        workspace=call.name("workspace"),
        experiment=call.name("experiment"),
        name=record.name,
        definition=record.definition,
        created_at=format_time(record.created_at),
        counts={state.value: number for state, number in counts.items()},
    )
