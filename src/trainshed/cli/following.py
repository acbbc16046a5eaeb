"""Staying with a job: its state while it waits, its output while it runs, and what Ctrl-C means."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, BinaryIO

from trainshed.cli.endings import describe, exit_code
from trainshed.cli.failing import show_failing_log
from trainshed.cli.logfiles import log_name
from trainshed.cli.statusline import StatusLine
from trainshed.resources.lifecycle import JobState
from trainshed.resources.reasons import ReasonCode

if TYPE_CHECKING:
    from trainshed.cli.session import Session
    from trainshed.client.models import Job

#: Seconds in which a second Ctrl-C terminates the job.
SECOND_THOUGHTS = 3.0
#: Exit code of a command that was interrupted; the job goes on.
DETACHED = 130
_FIRST_LOOKS = 0.1
_LATER_LOOKS = 1.0
#: How long, in seconds, output may still come after the job has ended.
_LAST_WORDS = 60.0


class _Output(threading.Thread):
    """Copies one log to one stream until the job has ended and all of it was read."""

    def __init__(self, session: Session, job: str, file: str, sink: BinaryIO, before_first: threading.Event) -> None:
        super().__init__(name=f"copies {file}", daemon=True)
        self._session, self._job, self._file, self._sink = session, job, file, sink
        self._before_first = before_first
        self.failure: Exception | None = None

    def run(self) -> None:
        try:
            for piece in self._session.client.jobs.stream_log(self._job, self._file):
                self._before_first.set()
                self._sink.write(piece)
                self._sink.flush()
        except Exception as error:
            self.failure = error


def follow(session: Session, job: Job) -> tuple[int, Job | None]:
    """Show the job until it has ended: its exit code and the job; or 130 and None when the user detached."""
    line = StatusLine()
    try:
        ended = _stay(session, job, line)
    except KeyboardInterrupt:
        line.clear()
        return _second_thoughts(session, job.name), None
    finally:
        line.clear()
    session.note(describe(ended))
    if not ended.final:
        return 1, ended
    # What the first process wrote is there already.
    show_failing_log(session, ended, shown=(log_name(ended), log_name(ended, stderr=True)))
    return exit_code(ended), ended


def _stay(session: Session, job: Job, line: StatusLine) -> Job:
    spoken = threading.Event()
    outputs = [
        _Output(session, job.name, log_name(job), sys.stdout.buffer, spoken),
        _Output(session, job.name, log_name(job, stderr=True), sys.stderr.buffer, spoken),
    ]
    for output in outputs:
        output.start()
    current, started = job, time.monotonic()
    while not current.final:
        if spoken.is_set() and current.execution_state is JobState.RUNNING:
            line.clear()
        else:
            line.say(_standing(current))
        pause = _FIRST_LOOKS if time.monotonic() - started < 5 else _LATER_LOOKS
        # The output ends when the job has: that is quicker to know than by asking.
        outputs[0].join(pause)
        if not outputs[0].is_alive():
            time.sleep(0.02 if current.execution_state is JobState.RUNNING else pause)
        current = session.client.jobs.get(job.name)
    line.clear()
    deadline = time.monotonic() + _LAST_WORDS
    for output in outputs:
        output.join(max(0.0, deadline - time.monotonic()))
    for output in outputs:
        if output.failure is not None and not _is_missing(output.failure):
            session.note(f"warning: the log is not complete here: {output.failure}; trainshed job logs {job.name}")
    return current


def _standing(job: Job) -> str:
    if job.execution_state is JobState.QUEUED:
        why = job.why_waiting
        if why is None or why.code == ReasonCode.WAITING_FOR_SCHEDULER:
            return f"job {job.name} is queued"
        return f"job {job.name} is queued: {why.message}"
    again = f" (attempt {job.attempt})" if job.attempt > 1 else ""
    return f"job {job.name} is {job.execution_state.value}{again}"


def _second_thoughts(session: Session, name: str) -> int:
    try:
        # The second Ctrl-C may come while this is still being printed.
        session.note(
            f"\ndetached: job {name} goes on. Come back with: trainshed job logs -f {name}\n"
            f"Ctrl-C again within {SECOND_THOUGHTS:.0f} s terminates it."
        )
        time.sleep(SECOND_THOUGHTS)
    except KeyboardInterrupt:
        session.client.jobs.terminate(name, wait=False)
        session.note(f"terminating job {name}")
    return DETACHED


def _is_missing(error: Exception) -> bool:
    """A job that never started its command has no such file."""
    return getattr(error, "status", None) == 404
