"""What a job waits for (``dependsOn``): looked up when it is submitted; what is met by then is not kept."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from trainshed.api.call import Call
from trainshed.api.errors import ApiError, being_deleted
from trainshed.api.lookup import find
from trainshed.control.dependencies import follow
from trainshed.identity import Scope
from trainshed.resources import ids
from trainshed.resources.conditions import Condition
from trainshed.resources.dependencies import MAX_DEPENDENCIES, Dependency, place_of
from trainshed.resources.ids import Kind
from trainshed.resources.lifecycle import ProvisioningState
from trainshed.scheduling.dependencies import Other, Verdict, judge
from trainshed.store import dependencies, job_arrays, jobs
from trainshed.store.records import JobRecord

_READ = "Microsoft.BatchAI/workspaces/experiments/jobs/read"

#: A job that is waited for, the condition, and its name as given.
Found = tuple[JobRecord, Condition, str]


def require_jobs(call: Call, wanted: Sequence[Dependency] | None) -> None:
    """Raises ApiError 403 unless the caller may see the jobs that are named: a wait tells what becomes of them."""
    if wanted:
        call.require(_READ, Scope(call.subscription, call.group, call.name("workspace")))


def look_up(tx: Connection, call: Call, wanted: Sequence[Dependency] | None) -> list[Found]:
    """The jobs that are named; an array stands for all its jobs.

    Raises ApiError 400 DependencyNotFound or TooManyDependencies, or 409 for one that is being deleted.
    They exist before the job that names them does: so nothing ever waits for itself.
    """
    found: list[Found] = []
    for index, dependency in enumerate(wanted or ()):
        experiment, name = place_of(dependency.job, call.name("experiment"))
        job = find(jobs.get, tx, ids.job_key(ids.experiment_key(call.workspace_key, experiment), name))
        if job is None and (members := _of_array(tx, call, experiment, name)):
            where = dependency.job[: -len(name)]
            found += [(member, Condition(dependency.condition), f"{where}{member.name}") for member in members]
            _check_number(found)
            continue
        if job is None:
            raise ApiError(
                400,
                "DependencyNotFound",
                f"Job.Properties.DependsOn[{index}].Job: there is no job '{name}' in experiment '{experiment}' of this "
                "workspace. Submit it first; one of another experiment is named experiment/name.",
                target=f"properties.dependsOn[{index}].job",
            )
        if job.state is ProvisioningState.DELETING:
            raise being_deleted(Kind.JOB, job.name)
        found.append((job, Condition(dependency.condition), dependency.job))
    return found


def _of_array(tx: Connection, call: Call, experiment: str, name: str) -> list[JobRecord]:
    """The jobs of an array of this name that are still there."""
    array = find(job_arrays.get, tx, ids.job_key(ids.experiment_key(call.workspace_key, experiment), name))
    if array is None:
        return []
    return [job for job in job_arrays.members(tx, array.id) if job.state is not ProvisioningState.DELETING]


def _check_number(found: Sequence[Found]) -> None:
    if len(found) > MAX_DEPENDENCIES:
        raise ApiError(
            400,
            "TooManyDependencies",
            f"Job.Properties.DependsOn: with the jobs of its arrays these are {len(found)} conditions or more; a job "
            f"has {MAX_DEPENDENCIES} at most. Let a job wait for some of them, and this one for that.",
            target="properties.dependsOn",
        )


def make_wait(tx: Connection, job_id: int, found: Sequence[Found], now: int) -> None:
    """The new job waits for what is not met yet. What can never be met ends it at once, with that reason."""
    judged = [(each, judge(each[1], Other(each[0].execution, each[0].begun))) for each in found]
    dependencies.insert(tx, job_id, ((job.id, on, name) for (job, on, name), is_ in judged if is_ is not Verdict.MET))
    hopeless = [job.id for (job, _, _), is_ in judged if is_ is Verdict.IMPOSSIBLE]
    if hopeless:
        follow(tx, hopeless, now)
