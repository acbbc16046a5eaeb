"""What became of an attempt, from what Slurm says of its job and what its runner left. Pure.

The runner's word that all succeeded stands against everything: a job that succeeded never runs again. A failure of its
own stands too. What Slurm did to the job stands against what processes that were being killed still said.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from trainshed.engines.protocol import GangResult
from trainshed.engines.slurm import reasons
from trainshed.engines.slurm.parsing import QueueLine
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.runner.spec import Outcome

#: Exit codes above this one name a signal, which the job may have got from Slurm.
_SIGNALLED = 128
#: Seconds after Slurm's end of a job for which its outcome may not be seen yet (caches of network file systems).
OUTCOME_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one attempt at one moment."""

    job: str
    run: int
    #: What the queue shows; None when the job is not there (any more).
    line: QueueLine | None
    #: Final state in Slurm's words when the queue does not show it: from accounting, or empty when nobody knows.
    state: str
    #: Whether Slurm was asked for all that it knows and does not list the job.
    gone: bool
    outcome: Outcome | None
    #: Whether Slurm asked the job's processes to end.
    signalled: bool
    #: Whether the job's script came so far as to start runners.
    began: bool
    stop: Reason | None
    #: Seconds since Slurm was first heard to say that it is over.
    over_for: float
    said: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """How it ended."""

    result: GangResult
    reason: dict[str, Any] | None = None
    exit_code: int | None = None
    ended_at: int | None = None
    container: dict[str, str] | None = None
    #: Slurm has queued the job again.
    again: bool = False


def verdict(facts: Facts) -> Verdict | None:
    """None while something of it may live, or may still be learned."""
    own = _own_end(facts)
    if own is not None:
        return own
    line = facts.line
    if line is not None and line.restarts > facts.run:
        if facts.stop is not None:
            return Verdict(GangResult.STOPPED, facts.stop.to_json())
        if facts.outcome is not None and facts.outcome.result == "failed" and not facts.signalled:
            return _of(facts.outcome)
        result, reason = reasons.requeued(facts.job, facts.said)
        return Verdict(result, reason.to_json(), again=True)
    if not (facts.gone or (line is not None and line.over)):
        return None
    return _after_end(facts, line.state if line is not None else facts.state)


def _own_end(facts: Facts) -> Verdict | None:
    """The end that the runner wrote, where nothing that Slurm says can change it."""
    outcome = facts.outcome
    if outcome is None:
        return None
    if outcome.result == "succeeded":
        return _of(outcome)
    if outcome.result == "stopped" and facts.stop is not None:
        return replace(_of(outcome), reason=facts.stop.to_json())
    if outcome.result == "failed" and not facts.signalled and (outcome.exit_code or 0) <= _SIGNALLED:
        return _of(outcome)
    return None


def _after_end(facts: Facts, state: str) -> Verdict | None:
    outcome = facts.outcome
    if facts.stop is not None:
        stopped = Verdict(GangResult.STOPPED, facts.stop.to_json())
        return stopped if outcome is None else replace(stopped, exit_code=outcome.exit_code, ended_at=outcome.ended_at)
    ended = reasons.how_ended(facts.job, state)
    if ended is not None:
        result, reason = ended
        return Verdict(result, reason.to_json(), None, outcome.ended_at if outcome else None)
    if outcome is not None:
        return _of(outcome)
    if facts.over_for < OUTCOME_SECONDS:
        return None
    if not state and not facts.began:
        return Verdict(GangResult.LOST, reasons.unknown(facts.job).to_json())
    if not facts.began and not facts.said.strip():
        # What cannot start says why; what was killed before it began does not.
        return Verdict(GangResult.LOST, reasons.runner_lost(facts.job, state, "").to_json())
    if not facts.began:
        return Verdict(GangResult.FAILED, reasons.cannot_start(facts.job, facts.said).to_json())
    return Verdict(GangResult.LOST, reasons.runner_lost(facts.job, state or "unknown", facts.said).to_json())


def _of(outcome: Outcome) -> Verdict:
    # A job that was warned of the end of its time and left has not done its work, and would not the next time.
    expired = (outcome.reason or {}).get("code") == ReasonCode.JOB_WALL_CLOCK_EXCEEDED
    result = GangResult.FAILED if expired else GangResult(outcome.result)
    return Verdict(result, outcome.reason, outcome.exit_code, outcome.ended_at or None, outcome.container)
