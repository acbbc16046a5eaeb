"""Jobs of an array take turns where it says how many may run at once."""

from __future__ import annotations

from sqlalchemy import Connection

from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.store import job_arrays
from trainshed.store.records import JobRecord


def give_turns(tx: Connection, array_id: int | None) -> None:
    """A job of the array has ended, or may have: the next ones join their queue, as many as there is room for.

    One that joined keeps its turn until it has ended, also while it waits for nodes or is tried again.
    """
    if array_id is None:
        return
    room = job_arrays.room(tx, array_id)
    if room > 0:
        job_arrays.release(tx, array_id, room)


def why_in_line(tx: Connection, job: JobRecord) -> Reason:
    """Why a job waits for its turn."""
    name, _, _ = job.name.rpartition("-")
    limit = job_arrays.limit(tx, job.array_id)
    text = (
        f"Array {name} lets {limit} of its jobs run at once, and as many are before this one. It joins the queue when "
        "one of them has ended; an array with a larger maxRunning would let it start earlier."
    )
    return Reason(ReasonCode.WAITING_FOR_ARRAY, text, {"array": name, "maxRunning": str(limit)})
