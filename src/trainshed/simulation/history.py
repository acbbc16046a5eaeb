"""The service's own history: jobs as the public API lists them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from trainshed.resources.job import PRIORITIES
from trainshed.resources.times import duration_seconds, parse_time
from trainshed.simulation.trace import Skipped, Trace, TraceJob


def from_history(jobs: Iterable[Mapping[str, Any]]) -> Trace:
    """A trace of jobs that have ended (of one that was tried again: its last attempt). Others are left out."""
    skipped = Skipped()
    found = [read for job in jobs if (read := _job(job, skipped)) is not None]
    return Trace.of(found, None, skipped.counts)


def _job(job: Mapping[str, Any], skipped: Skipped) -> TraceJob | None:
    about = job["properties"]
    execution = about.get("executionInfo") or {}
    start, end = execution.get("startTime"), execution.get("endTime")
    if start is None:
        skipped.add("never ran" if about.get("executionState") in ("failed", "succeeded") else "still waiting")
        return None
    if end is None:
        skipped.add("still running")
        return None
    limit = (about.get("constraints") or {}).get("maxWallClockTime")
    segments = job["id"].split("/")
    # .../workspaces/W/experiments/E/jobs/J
    experiment = segments[-3] if len(segments) > 3 else ""
    return TraceJob(
        submitted=parse_time(about["creationTime"]),
        runtime=max(0, parse_time(end) - parse_time(start)),
        nodes=int(about.get("nodeCount") or 1),
        limit=None if limit is None else round(1000 * duration_seconds(limit)),
        user=str(about.get("submittedBy") or ""),
        experiment=experiment,
        priority=PRIORITIES.get(about.get("schedulingPriority") or "normal", 0),
        name=job["name"],
    )
