"""2026-11-01: a running job is made to give up its nodes, and is queued again (``POST .../jobs/{job}/preempt``)."""

from __future__ import annotations

from sqlalchemy import Connection
from starlette.responses import Response

from trainshed.api import jobs as job_routes
from trainshed.api.answers import entity
from trainshed.api.call import Call
from trainshed.api.errors import ApiError
from trainshed.api.paging import whole_number
from trainshed.resources.lifecycle import AttemptState, JobState, ProvisioningState
from trainshed.resources.preemption import warning_of
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.resources.times import format_duration
from trainshed.resources.views import Json
from trainshed.store import attempts, clusters
from trainshed.store.errors import or_none
from trainshed.store.records import JobRecord

#: More attempts than any job has.
_MANY = 2**31 - 1


async def preempt(call: Call) -> Response:
    """POST: 200 with the job; it is warned as its ``preemption`` says, stopped, and goes back to its queue's head.

    ``attempt`` is the number of the attempt that is meant: with a later one nothing happens, so that a call may be
    repeated. 409 for a job that does not run.
    """
    key, now, who = call.job_key, call.now(), call.caller.name
    meant = whole_number(call, "attempt", 0, 0, _MANY)

    def store(tx: Connection) -> tuple[JobRecord, Json]:
        record = job_routes.required(tx, call, key)
        attempt = attempts.live_of_job(tx, record.id)
        if meant == 0 or record.attempts == meant:
            if (
                record.execution is not JobState.RUNNING
                or record.state is ProvisioningState.DELETING
                or attempt is None
            ):
                raise _not_running(record)
            if attempt.state is not AttemptState.STOPPING:
                cluster = or_none(clusters.get_by_uid, tx, record.cluster_uid)
                warning = warning_of(record.definition, cluster.definition if cluster is not None else None)
                leave = format_duration(warning.seconds) if warning is not None else "PT0S"
                reason = Reason(
                    ReasonCode.PREEMPTED,
                    f"The job was pre-empted by {who} and is queued again, before the others of its priority.",
                    {"preemptedBy": who, "gracePeriod": leave},
                )
                attempts.request_stop(tx, attempt.id, now, reason, attempts.REQUEUE, warning)
        return record, job_routes.view(record, job_routes.newer_members(tx, call, record))

    record, shown = await call.write(store)
    return entity(shown, record.modified_at)


def _not_running(record: JobRecord) -> ApiError:
    state = "being deleted" if record.state is ProvisioningState.DELETING else record.execution.value
    return ApiError(
        409,
        "JobNotRunning",
        f"The job {record.name} is {state}: only a running job holds nodes that it can give up.",
        target="execution",
    )
