"""The last lines of the log of the process that failed: what a person asks for next."""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING

from trainshed.cli.logfiles import log_name
from trainshed.client.errors import ClientError
from trainshed.resources.lifecycle import JobState

if TYPE_CHECKING:
    from trainshed.cli.session import Session
    from trainshed.client.models import Job

_LINES = 20
#: Bytes from the end of the log in which the lines are looked for.
_REACH = 16_384


def show_failing_log(session: Session, job: Job, *, shown: Container[str] = ()) -> None:
    """Print the end of the log of a failed job's failing process; nothing when it wrote none or it is in ``shown``."""
    if job.execution_state is not JobState.FAILED:
        return
    launcher = log_name(job, stderr=True)
    stderr = _named(job) or launcher
    if stderr in shown:
        return
    try:
        sizes = {log.name: log.size for log in session.client.jobs.logs(job.name)}
        # Some programs say on standard output why they fail.
        logs = (stderr, stderr.replace("stderr", "stdout", 1), launcher, launcher.replace("stderr", "stdout", 1))
        name = next((name for name in logs if sizes.get(name)), None)
        if name is None:
            return
        offset = max(0, sizes[name] - _REACH)
        text = b"".join(session.client.jobs.stream_log(job.name, name, offset=offset, follow=False))
    except ClientError as error:
        session.note(f"warning: the job's logs cannot be read: {error}")
        return
    lines = text.decode("utf-8", "replace").splitlines()
    more = offset or len(lines) > _LINES
    session.note(f"--- {name}{f' (all of it: trainshed job logs {job.name} --file {name})' if more else ''}")
    session.note("\n".join(lines[-_LINES:]))


def _named(job: Job) -> str | None:
    """The file that the service names in its reason."""
    return next((value for problem in job.errors for name, value in problem.details if name == "stdErrFile"), None)
