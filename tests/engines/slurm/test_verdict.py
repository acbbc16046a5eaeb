"""What became of an attempt: each combination of Slurm's word and the runner's."""

from __future__ import annotations

from typing import Any

import pytest

from trainshed.engines.protocol import GangResult
from trainshed.engines.slurm.parsing import QueueLine
from trainshed.engines.slurm.verdict import Facts, Verdict, verdict
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.runner.spec import Outcome

EXPIRED = Outcome("stopped", 3, {"code": "JobMaxWallClockTimeExceeded", "text": "", "details": {}}, 1000)
STOP = Reason(ReasonCode.DELETED_BY_USER, "wanted")
SUCCEEDED = Outcome("succeeded", 0, None, 1000)
FAILED = Outcome("failed", 7, {"code": "JobFailed", "text": "7", "details": {}}, 1000)
KILLED = Outcome("failed", 143, {"code": "JobFailed", "text": "143", "details": {}}, 1000)
ASKED = Outcome("stopped", None, {"code": "JobTerminated", "text": "a signal", "details": {}}, 1000)


def facts(line: QueueLine | None = None, **more: Any) -> Facts:
    values: dict[str, Any] = {
        "job": "42",
        "run": 0,
        "line": line,
        "state": "",
        "gone": False,
        "outcome": None,
        "signalled": False,
        "began": True,
        "stop": None,
        "over_for": 100.0,
        "said": "",
    }
    return Facts(**{**values, **more})


def job(state: str, restarts: int = 0) -> QueueLine:
    return QueueLine("42", state, restarts, None, "", "")


def of(found: Verdict | None) -> tuple[GangResult, str | None, bool] | None:
    return None if found is None else (found.result, found.reason["code"] if found.reason else None, found.again)


TOO_LONG = (GangResult.FAILED, "JobMaxWallClockTimeExceeded", False)
PRE_EMPTED = "slurmstepd: error: *** JOB 42 ON n1 CANCELLED AT 2026-11-21T17:02:18 DUE TO PREEMPTION ***"
REQUEUED = "slurmstepd: error: *** JOB 42 ON n1 CANCELLED AT 2026-11-21T17:02:18 DUE TO JOB REQUEUE ***"


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        # Alive, or not yet known.
        (facts(job("RUNNING")), None),
        (facts(job("COMPLETING")), None),
        (facts(None), None),
        (facts(job("RUNNING"), outcome=KILLED), None),
        (facts(job("RUNNING"), outcome=FAILED, signalled=True), None),
        (facts(job("COMPLETED"), over_for=0.5), None),
        # The runner's own word stands.
        (facts(job("RUNNING"), outcome=SUCCEEDED), (GangResult.SUCCEEDED, None, False)),
        (facts(job("PENDING", 1), outcome=SUCCEEDED), (GangResult.SUCCEEDED, None, False)),
        (facts(job("CANCELLED"), outcome=SUCCEEDED), (GangResult.SUCCEEDED, None, False)),
        (facts(job("RUNNING"), outcome=FAILED), (GangResult.FAILED, "JobFailed", False)),
        (facts(job("PENDING", 1), outcome=FAILED), (GangResult.FAILED, "JobFailed", False)),
        (facts(job("PENDING", 1), outcome=KILLED), (GangResult.FAILED, "JobFailed", False)),
        (facts(job("FAILED"), outcome=KILLED), (GangResult.FAILED, "JobFailed", False)),
        # Slurm has queued it again.
        (facts(job("PENDING", 1)), (GangResult.LOST, "NodeLost", True)),
        (facts(job("PENDING", 1), said=PRE_EMPTED), (GangResult.STOPPED, "Preempted", True)),
        (facts(job("RUNNING", 1), said=f"{PRE_EMPTED}\n{REQUEUED}"), (GangResult.STOPPED, "EngineStopped", True)),
        (facts(job("PENDING", 1), outcome=KILLED, signalled=True), (GangResult.LOST, "NodeLost", True)),
        (facts(job("PENDING", 1), outcome=ASKED, said=PRE_EMPTED), (GangResult.STOPPED, "Preempted", True)),
        (facts(job("PENDING", 1), stop=STOP), (GangResult.STOPPED, "DeletedByUser", False)),
        # Slurm has ended it.
        (facts(job("CANCELLED")), (GangResult.FAILED, "JobTerminated", False)),
        (facts(job("CANCELLED"), outcome=ASKED, signalled=True), (GangResult.FAILED, "JobTerminated", False)),
        (facts(job("PREEMPTED"), outcome=ASKED), (GangResult.STOPPED, "Preempted", False)),
        (facts(job("NODE_FAIL")), (GangResult.LOST, "NodeLost", False)),
        (facts(job("BOOT_FAIL"), began=False), (GangResult.LOST, "NodeLost", False)),
        (
            facts(job("TIMEOUT"), signalled=True, outcome=KILLED),
            TOO_LONG,
        ),
        (facts(job("DEADLINE"), began=False), TOO_LONG),
        (facts(job("OUT_OF_MEMORY")), (GangResult.FAILED, "JobFailed", False)),
        (facts(None, gone=True, state="TIMEOUT"), TOO_LONG),
        (facts(job("RUNNING"), outcome=EXPIRED), None),
        (facts(job("COMPLETED"), outcome=EXPIRED), TOO_LONG),
        # We have.
        (facts(job("CANCELLED"), stop=STOP), (GangResult.STOPPED, "DeletedByUser", False)),
        (facts(job("RUNNING"), stop=STOP, outcome=ASKED), (GangResult.STOPPED, "DeletedByUser", False)),
        (facts(job("FAILED"), stop=STOP, outcome=KILLED, signalled=True), (GangResult.STOPPED, "DeletedByUser", False)),
        # Nobody knows why.
        (facts(job("COMPLETED")), (GangResult.LOST, "RunnerLost", False)),
        (facts(job("FAILED"), began=False, said="python3: not found"), (GangResult.FAILED, "JobLaunchFailed", False)),
        (facts(job("FAILED"), began=False, said="\n"), (GangResult.LOST, "RunnerLost", False)),
        (facts(None, gone=True, began=False), (GangResult.LOST, "RunnerLost", False)),
        (facts(None, gone=True), (GangResult.LOST, "RunnerLost", False)),
    ],
)
def test_verdict(known: Facts, expected: tuple[GangResult, str | None, bool] | None) -> None:
    assert of(verdict(known)) == expected


def test_the_exit_code_and_the_time_are_the_runner_s() -> None:
    found = verdict(facts(job("RUNNING"), outcome=FAILED))
    assert found is not None and (found.exit_code, found.ended_at) == (7, 1000)


def test_what_the_script_said_last_is_told() -> None:
    found = verdict(facts(job("FAILED"), began=False, said="a\nbash: line 2: python9: command not found"))
    assert found is not None and found.reason is not None
    assert "python9: command not found" in found.reason["text"] and "'python'" in found.reason["text"]
