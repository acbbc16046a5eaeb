"""The trace of Microsoft's Philly clusters: ``cluster_job_log``, JSON (https://github.com/msr-fiddle/philly-traces)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from trainshed.simulation.helios import moment
from trainshed.simulation.trace import Skipped, Trace, TraceError, TraceJob, nodes_for

_NOTHING = (None, "", "None")


def read_philly(lines: Iterable[str], *, per_node: int = 1) -> Trace:
    """Read a trace. ``per_node``: GPUs of a node.

    A job runs for as long as all of its attempts together did, on as many GPUs as the widest had; attempts without a
    start or end are not counted. A virtual cluster (``vc``) is read as an experiment. Raises TraceError.
    """
    try:
        entries = json.loads("".join(lines))
    except json.JSONDecodeError as error:
        raise TraceError(f"it is not JSON: {error.msg}", error.lineno) from None
    if not isinstance(entries, list):
        raise TraceError("it is not a list of jobs", 1)
    skipped = Skipped()
    jobs = []
    for number, entry in enumerate(entries, 1):
        try:
            job = _job(entry, per_node, skipped)
        except (TraceError, KeyError, TypeError, AttributeError) as error:
            missing = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            name = entry.get("jobid") if isinstance(entry, dict) else None
            raise TraceError(f"job {number}{f' ({name})' if name else ''}: {missing}") from None
        if job is not None:
            jobs.append(job)
    return Trace.of(jobs, None, skipped.counts)


def _job(entry: Mapping[str, Any], per_node: int, skipped: Skipped) -> TraceJob | None:
    if entry["submitted_time"] in _NOTHING:
        skipped.add("without a time of submission")
        return None
    attempts = [
        attempt
        for attempt in entry["attempts"]
        if attempt.get("start_time") not in _NOTHING and attempt.get("end_time") not in _NOTHING
    ]
    gpus = max((_gpus(attempt.get("detail") or ()) for attempt in attempts), default=0)
    if not gpus:
        skipped.add("never ran")
        return None
    runtime = sum(
        moment(attempt["end_time"], "end_time", None) - moment(attempt["start_time"], "start_time", None)
        for attempt in attempts
    )
    return TraceJob(
        submitted=moment(entry["submitted_time"], "submitted_time", None),
        runtime=max(0, runtime),
        nodes=nodes_for(gpus, per_node),
        user=str(entry.get("user") or ""),
        experiment=str(entry.get("vc") or ""),
        name=str(entry.get("jobid") or ""),
    )


def _gpus(detail: Sequence[Mapping[str, Any]]) -> int:
    return sum(len(server["gpus"]) for server in detail)
