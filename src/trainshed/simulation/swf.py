"""The Standard Workload Format of the Parallel Workloads Archive, version 2.2: 18 fields a line, ``;`` headers.

https://www.cs.huji.ac.il/labs/parallel/workload/swf.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from enum import IntEnum

from trainshed.simulation.trace import Skipped, Trace, TraceError, TraceJob, nodes_for, numbered

UNKNOWN = -1


class Field(IntEnum):
    """The fields of a line, from 0."""

    JOB = 0
    SUBMIT = 1
    WAIT = 2
    RUN_TIME = 3
    ALLOCATED = 4
    CPU_TIME = 5
    USED_MEMORY = 6
    REQUESTED = 7
    REQUESTED_TIME = 8
    REQUESTED_MEMORY = 9
    STATUS = 10
    USER = 11
    GROUP = 12
    EXECUTABLE = 13
    QUEUE = 14
    PARTITION = 15
    PRECEDING = 16
    THINK_TIME = 17


class Status(IntEnum):
    """How a job ended. Parts of a job that was swapped out have lines of their own, beside that of the whole job."""

    FAILED = 0
    COMPLETED = 1
    PART = 2
    LAST_PART_COMPLETED = 3
    LAST_PART_FAILED = 4
    CANCELLED = 5


_PARTS = (Status.PART, Status.LAST_PART_COMPLETED, Status.LAST_PART_FAILED)
_HEADER = re.compile(r";\s*(\w+):\s*(.*)")


def read_swf(lines: Iterable[str], *, per_node: int | None = None) -> Trace:
    """Read a trace. ``per_node``: processors of a node; None for what the header says, else 1.

    Jobs that never ran are left out. A limit that the log's own job outran is taken to be as long as the job, for
    replayed jobs would be ended by it. Raises TraceError.
    """
    header: dict[str, str] = {}
    entries: list[tuple[int, list[float]]] = []
    for line, text in numbered(lines):
        if text.startswith(";"):
            found = _HEADER.fullmatch(text)
            if found:
                header.setdefault(found[1], found[2].strip())
        else:
            entries.append((line, _fields(text, line)))
    processors, nodes = _number(header, "MaxProcs"), _number(header, "MaxNodes")
    if per_node is None:
        per_node = processors // nodes if processors and nodes and processors % nodes == 0 else 1
    if processors:
        nodes = nodes_for(processors, per_node)
    skipped = Skipped()
    epoch = 1000 * (_number(header, "UnixStartTime") or 0)
    jobs = [job for line, fields in entries if (job := _job(fields, line, per_node, epoch, skipped)) is not None]
    return Trace.of(jobs, nodes, skipped.counts)


def _fields(text: str, line: int) -> list[float]:
    words = text.split()
    if len(words) != len(Field):
        raise TraceError(
            f"a job has {len(Field)} fields and this line has {len(words)}",
            line,
            "unknown fields are -1; comments begin with ;",
        )
    try:
        return [float(word) for word in words]
    except ValueError as error:
        raise TraceError(f"a field is not a number ({error})", line, "unknown fields are -1") from None


def _number(header: Mapping[str, str], name: str) -> int | None:
    found = re.match(r"\d+", header.get(name, ""))
    return int(found[0]) or None if found else None


def _job(fields: list[float], line: int, per_node: int, epoch: int, skipped: Skipped) -> TraceJob | None:
    status, run_time = fields[Field.STATUS], fields[Field.RUN_TIME]
    if status in _PARTS:
        skipped.add("parts of jobs that have a line of their own")
        return None
    if run_time < 0 or (status == Status.CANCELLED and run_time == 0):
        skipped.add("cancelled before they ran" if status == Status.CANCELLED else "without a run time")
        return None
    processors = next((int(fields[f]) for f in (Field.ALLOCATED, Field.REQUESTED) if fields[f] > 0), 0)
    if processors == 0:
        skipped.add("without a number of processors")
        return None
    if fields[Field.SUBMIT] < 0:
        raise TraceError("the submit time is negative", line)
    asked = fields[Field.REQUESTED_TIME]
    return TraceJob(
        submitted=epoch + round(1000 * fields[Field.SUBMIT]),
        runtime=round(1000 * run_time),
        nodes=nodes_for(processors, per_node),
        limit=round(1000 * max(asked, run_time, 1)) if asked > 0 else None,
        user=_name(fields[Field.USER]),
        experiment=_name(fields[Field.EXECUTABLE]),
        name=_name(fields[Field.JOB]),
    )


def _name(field: float) -> str:
    return "" if field < 0 else str(int(field))


def write_swf(trace: Trace, *, note: str = "") -> Iterator[str]:
    """The lines of a trace. Names of users and experiments become numbers; priorities are not part of the format."""
    first = trace.jobs[0].submitted if trace.jobs else 0
    yield "; Version: 2.2"
    if note:
        yield f"; Note: {note}"
    if first >= 1000:
        yield f"; UnixStartTime: {first // 1000}"
    yield f"; MaxJobs: {len(trace.jobs)}"
    yield f"; MaxRecords: {len(trace.jobs)}"
    if trace.nodes:
        yield f"; MaxNodes: {trace.nodes}"
        yield f"; MaxProcs: {trace.nodes}"
    users: dict[str, int] = {}
    experiments: dict[str, int] = {}
    for number, job in enumerate(trace.jobs, 1):
        fields: list[object] = [UNKNOWN] * len(Field)
        fields[Field.JOB] = number
        fields[Field.SUBMIT] = _seconds(job.submitted - 1000 * (first // 1000))
        fields[Field.RUN_TIME] = _seconds(job.runtime)
        fields[Field.ALLOCATED] = fields[Field.REQUESTED] = job.nodes
        fields[Field.REQUESTED_TIME] = UNKNOWN if job.limit is None else _seconds(job.limit)
        fields[Field.STATUS] = int(Status.COMPLETED)
        fields[Field.USER] = users.setdefault(job.user, len(users) + 1) if job.user else UNKNOWN
        fields[Field.EXECUTABLE] = (
            experiments.setdefault(job.experiment, len(experiments) + 1) if job.experiment else UNKNOWN
        )
        yield " ".join(str(field) for field in fields)


def _seconds(ms: int) -> str:
    return f"{ms / 1000:.3f}".rstrip("0").rstrip(".")
