"""The traces of SenseTime's Helios clusters: ``cluster_log.csv`` (https://github.com/S-Lab-System-Group/HeliosData)."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from datetime import UTC, datetime

from trainshed.simulation.trace import Skipped, Trace, TraceError, TraceJob, nodes_for, require

COLUMNS = (
    "job_id", "user", "vc", "gpu_num", "cpu_num", "node_num", "state",
    "submit_time", "start_time", "end_time", "duration", "queue",
)  # fmt: skip
_NEEDED = ("user", "gpu_num", "submit_time", "duration")


def read_helios(lines: Iterable[str], *, per_node: int = 1) -> Trace:
    """Read a trace. ``per_node``: GPUs of a node. Jobs without GPUs and such as never ran are left out.

    A virtual cluster (``vc``) is read as an experiment. Raises TraceError.
    """
    rows = csv.DictReader(lines)
    require(rows.fieldnames, _NEEDED, 1)
    skipped = Skipped()
    jobs = [job for row in rows if (job := _job(row, rows.line_num, per_node, skipped)) is not None]
    return Trace.of(jobs, None, skipped.counts)


def _job(row: dict[str, str | None], line: int, per_node: int, skipped: Skipped) -> TraceJob | None:
    gpus, duration = _number(row, "gpu_num", line), _number(row, "duration", line)
    if not gpus:
        skipped.add("without GPUs")
        return None
    if duration is None or duration < 0 or (row.get("start_time") or "").strip() in ("None",):
        skipped.add("never ran")
        return None
    return TraceJob(
        submitted=moment(row.get("submit_time") or "", "submit_time", line),
        runtime=round(1000 * duration),
        nodes=nodes_for(int(gpus), per_node),
        user=row.get("user") or "",
        experiment=row.get("vc") or "",
        name=row.get("job_id") or "",
    )


def _number(row: dict[str, str | None], column: str, line: int) -> float | None:
    text = (row.get(column) or "").strip()
    if text in ("", "None", "NaN", "nan"):
        return None
    try:
        return float(text)
    except ValueError:
        raise TraceError(f"{column} is {text!r}, not a number", line) from None


def moment(text: str, column: str, line: int | None) -> int:
    """Milliseconds of ``2020-06-09 18:41:01`` (no zone is said; only differences count)."""
    try:
        return round(1000 * datetime.fromisoformat(text.strip()).replace(tzinfo=UTC).timestamp())
    except ValueError:
        raise TraceError(f"{column} is {text!r}, not a time such as 2020-06-09 18:41:01", line) from None
