"""When a job that waits for others may join its queue: the rule of ``dependsOn``, and what people are told of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from trainshed.resources.conditions import Condition
from trainshed.resources.lifecycle import JOB, JobState
from trainshed.resources.reasons import Reason, ReasonCode

#: Most jobs that one sentence names.
_NAMED = 3

_UNTIL = {Condition.AFTER: "to start", Condition.AFTER_OK: "to succeed", Condition.AFTER_ANY: "to end"}
_DONE = {Condition.AFTER: "started", Condition.AFTER_OK: "succeeded", Condition.AFTER_ANY: "ended"}


class Verdict(StrEnum):
    """What a condition comes to. Met and impossible are for good."""

    MET = "met"
    WAITING = "waiting"
    IMPOSSIBLE = "impossible"


@dataclass(frozen=True, slots=True)
class Other:
    """The job that is waited for."""

    execution: JobState
    #: How often it was started; a job that waits to be tried again has started.
    attempts: int


@dataclass(frozen=True, slots=True)
class Dependency:
    """One condition on another job, which is None when it was deleted."""

    #: The other job as the user named it.
    name: str
    condition: Condition
    other: Other | None


def judge(condition: Condition, other: Other | None) -> Verdict:
    """What the condition comes to. To be deleted is an end too, which only ``afterAny`` is content with.

    Slurm's rules, but for ``after``, which Slurm also takes for met when the other was cancelled before it started.
    """
    ended = other is None or other.execution in JOB.final
    if condition is Condition.AFTER:
        met = other is not None and other.attempts > 0
    elif condition is Condition.AFTER_OK:
        met = other is not None and other.execution is JobState.SUCCEEDED
    else:
        met = ended
    if met:
        return Verdict.MET
    return Verdict.IMPOSSIBLE if ended else Verdict.WAITING


def waiting(unmet: Sequence[Dependency]) -> Reason:
    """Why a job whose conditions are not all met waits, and what would change it."""
    named = [f"{each.name} {_UNTIL[each.condition]} ({_state(each.other)})" for each in unmet[:_NAMED]]
    more = f" and {len(unmet) - _NAMED} more" if len(unmet) > _NAMED else ""
    then = "then" if len(unmet) == 1 else "when all of that is so"
    text = f"It waits for {', '.join(named)}{more}. It joins the queue {then}; to run it earlier, submit it again "
    text += "without dependsOn."
    details = {each.name: _state(each.other) for each in unmet}
    return Reason(ReasonCode.WAITING_FOR_DEPENDENCIES, text, details)


def impossible(dependency: Dependency) -> Reason:
    """Why a job can never run whose condition cannot be met any more."""
    then = f"Mend job {dependency.name} and submit both again"
    if dependency.other is None:
        happened, then = "was deleted", "Submit both again"
    elif dependency.condition is Condition.AFTER:
        happened = "ended without having started"
    else:
        happened = dependency.other.execution.value
    text = (
        f"The job was to run once job {dependency.name} had {_DONE[dependency.condition]} "
        f"({dependency.condition.value}), but that one {happened}, so this one cannot run. "
        f"{then}, or use afterAny to run however it ends."
    )
    details = {"job": dependency.name, "condition": dependency.condition.value, "state": _state(dependency.other)}
    return Reason(ReasonCode.DEPENDENCY_FAILED, text, details)


def _state(other: Other | None) -> str:
    return "deleted" if other is None else other.execution.value
