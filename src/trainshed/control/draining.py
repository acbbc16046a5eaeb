"""Finishing what runs and starting nothing more (``trainshed serve --drain``)."""

from __future__ import annotations

from sqlalchemy import Connection

from trainshed.control.explaining import why_waiting
from trainshed.control.settings import ControlSettings
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.store import attempts, draining
from trainshed.store.records import JobRecord

_DRAINING = Reason(
    ReasonCode.SERVICE_DRAINING,
    "The service lets running jobs end and starts no others, then it leaves. The job starts when the service is "
    "started again, or goes on: trainshed serve --no-drain.",
)


def is_draining(tx: Connection, settings: ControlSettings) -> bool:
    """Whether nothing may be started now; notes that all is done when nothing runs any more."""
    drain = draining.wanted(tx, settings.drain_known)
    if drain is None:
        return False
    # What waits in an engine's own queue stays there: the service finds it again.
    if not drain.done and all(attempt.waiting is not None for attempt in attempts.live(tx)):
        draining.finish(tx)
    return True


def standstill(tx: Connection, settings: ControlSettings) -> Reason | None:
    """Why no job at all is started now; None if some may be."""
    return None if draining.wanted(tx, settings.drain_known) is None else _DRAINING


def why(tx: Connection, job: JobRecord, settings: ControlSettings, *, engine_available: bool) -> Reason:
    """Why this queued job waits, and what would change it."""
    still = None if job.handed_over else standstill(tx, settings)
    return still or why_waiting(tx, job, settings, engine_available=engine_available)
