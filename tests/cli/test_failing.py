"""``trainshed job show`` of a job that failed: the last lines of the log of the process that failed."""

from __future__ import annotations

from typing import Any

import pytest

from trainshed.cli.failing import show_failing_log
from trainshed.client.models import Job, Log


class Jobs:
    """What the client has of one job's files."""

    def __init__(self, **files: str) -> None:
        self.files = {f"{name.replace('_', '-')}.txt": text.encode() for name, text in files.items()}

    def logs(self, _job: str) -> list[Log]:
        return [Log({"name": name, "size": len(text)}) for name, text in self.files.items()]

    def stream_log(self, _job: str, name: str, *, offset: int, follow: bool) -> list[bytes]:
        assert not follow
        return [self.files[name][offset:]]


class Session:
    """Collects what a person is told."""

    def __init__(self, jobs: Jobs) -> None:
        self.client = self
        self.jobs = jobs
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def failed(tool: str, **details: str) -> Job:
    problem: dict[str, Any] = {"code": "JobFailed", "message": "m"}
    problem["details"] = [{"name": name, "value": value} for name, value in details.items()]
    info = {"exitCode": 3, "errors": [problem]}
    return Job({"name": "j", "properties": {"toolType": tool, "executionState": "failed", "executionInfo": info}})


def told(job: Job, jobs: Jobs, **more: Any) -> list[str]:
    session = Session(jobs)
    show_failing_log(session, job, **more)  # type: ignore[arg-type]
    return session.notes


BOTH = Jobs(stderr_0="zero\n", stderr_1="one\n", stdout_1="out\n")


@pytest.mark.parametrize(
    ("job", "jobs", "expected"),
    [
        (failed("pytorch", stdErrFile="stderr-1.txt"), BOTH, ["--- stderr-1.txt", "one"]),
        (failed("pytorch"), BOTH, ["--- stderr-0.txt", "zero"]),
        (failed("custom"), Jobs(stdout="said here\n", stderr=""), ["--- stdout.txt", "said here"]),
        (failed("custom"), Jobs(), []),
        (Job({"name": "j", "properties": {"toolType": "custom", "executionState": "succeeded"}}), BOTH, []),
    ],
    ids=["named", "not-named", "nothing-on-stderr", "no-logs", "succeeded"],
)
def test_which_log_is_shown(job: Job, jobs: Jobs, expected: list[str]) -> None:
    assert told(job, jobs) == expected


def test_of_a_long_log_the_last_lines() -> None:
    header, lines = told(failed("custom"), Jobs(stderr="\n".join(f"line {n}" for n in range(9000))))
    assert header == "--- stderr.txt (all of it: trainshed job logs j --file stderr.txt)"
    assert lines.splitlines() == [f"line {n}" for n in range(8980, 9000)]


def test_what_was_shown_is_not_shown_again() -> None:
    assert told(failed("pytorch", stdErrFile="stderr-1.txt"), BOTH, shown=("stderr-1.txt",)) == []
