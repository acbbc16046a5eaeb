"""How a job ended, in words and as an exit code of the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainshed.cli.times import duration
from trainshed.resources.lifecycle import JobState
from trainshed.resources.reasons import ReasonCode

if TYPE_CHECKING:
    from trainshed.client.models import Job

#: As a shell says of a command that SIGTERM ended.
TERMINATED = 143


def exit_code(job: Job) -> int:
    """The job's own; 143 when it was terminated, 1 when it failed without one."""
    if job.execution_state is JobState.SUCCEEDED:
        return 0
    if job.exit_code:
        return (job.exit_code & 0xFF) or 1
    if any(problem.code == ReasonCode.JOB_TERMINATED for problem in job.errors):
        return TERMINATED
    return 1


def describe(job: Job) -> str:
    """``job x succeeded after 3.2 s``, or what went wrong and where to look."""
    took = ""
    if job.started and job.ended:
        took = f" after {duration((job.ended - job.started).total_seconds())}"
    if job.execution_state is JobState.SUCCEEDED:
        return f"job {job.name} succeeded{took}"
    ending = "was terminated" if exit_code(job) == TERMINATED and job.exit_code is None else "failed"
    code = f" with exit code {job.exit_code}" if job.exit_code is not None else ""
    lines = [f"job {job.name} {ending}{code}{took}"]
    for problem in job.errors:
        lines.append(f"  {problem.code}: {problem.message}")
        lines.extend(f"    {name}: {value}" for name, value in problem.details)
    return "\n".join(lines)
