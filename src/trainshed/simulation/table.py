"""Traces as plain CSV: ``submitted,runtime,nodes`` and, where wanted, ``limit,user,experiment,priority,name``."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator

from trainshed.resources.job import PRIORITIES
from trainshed.resources.times import format_time, parse_time
from trainshed.simulation.durations import milliseconds
from trainshed.simulation.trace import Trace, TraceError, TraceJob, require

REQUIRED = ("submitted", "runtime", "nodes")
OPTIONAL = ("limit", "user", "experiment", "priority", "name")


def read_table(lines: Iterable[str]) -> Trace:
    """Read a trace. Times are RFC 3339 or seconds; durations as ``milliseconds`` has them; a priority is high,
    normal, low or a number. Raises TraceError.
    """
    rows = csv.DictReader(lines)
    rows.fieldnames = [name.strip().lower() for name in rows.fieldnames or ()]
    require(rows.fieldnames, REQUIRED, 1)
    for name in rows.fieldnames:
        if name not in REQUIRED + OPTIONAL:
            raise TraceError(f"the column {name!r} is not known; there are {', '.join(REQUIRED + OPTIONAL)}", 1)
    return Trace.of(_job(row, rows.line_num) for row in rows)


def _job(row: dict[str, str | None], line: int) -> TraceJob:
    # What has no column of its own is kept under None.
    if None in row:
        raise TraceError("it has more values than there are columns", line, "quote a value that contains a comma")

    def text(name: str) -> str:
        return (row.get(name) or "").strip()

    runtime = _duration(text("runtime"), "runtime", line)
    if not text("nodes").isascii() or not text("nodes").isdigit() or int(text("nodes")) < 1:
        raise TraceError(f"nodes is {text('nodes')!r}; it is a number from 1", line)
    limit = _duration(text("limit"), "limit", line) if text("limit") else None
    return TraceJob(
        submitted=_moment(text("submitted"), line),
        runtime=runtime,
        nodes=int(text("nodes")),
        limit=limit,
        user=text("user"),
        experiment=text("experiment"),
        priority=_priority(text("priority"), line),
        name=text("name"),
    )


def _moment(text: str, line: int) -> int:
    seconds = _seconds(text)
    if seconds is not None:
        return round(1000 * seconds)
    try:
        return parse_time(text)
    except ValueError:
        raise TraceError(
            f"submitted is {text!r}; write seconds, or a time such as 2026-11-21T09:30:00Z", line
        ) from None


def _duration(text: str, column: str, line: int) -> int:
    try:
        return milliseconds(text)
    except ValueError as error:
        raise TraceError(f"{column}: {error}", line) from None


def _seconds(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if 0 <= seconds < 1e12 else None


def _priority(text: str, line: int) -> int:
    if text in PRIORITIES or not text:
        return PRIORITIES[text or "normal"]
    try:
        return int(text)
    except ValueError:
        raise TraceError(f"priority is {text!r}; write {', '.join(PRIORITIES)} or a number", line) from None


def write_table(trace: Trace) -> Iterator[str]:
    """The lines of a trace."""
    yield ",".join(REQUIRED + OPTIONAL)
    for job in trace.jobs:
        # Moments since 1970 that are so early are seconds since the trace's own beginning.
        submitted = format_time(job.submitted) if job.submitted >= 10**11 else f"{job.submitted / 1000:g}"
        limit = "" if job.limit is None else str(job.limit / 1000)
        cells = (submitted, job.runtime / 1000, job.nodes, limit, job.user, job.experiment, job.priority, job.name)
        yield ",".join(_cell(str(cell)) for cell in cells)


def _cell(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(character in text for character in ',"\r\n') else text
