"""How an attempt ends before its time: one exception that carries the outcome, and the common reasons.

Codes and sentences of the original contract are kept (rest-contract section 7); the rest are Trainshed's own.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.runner.spec import HostSpec, Outcome

SUCCEEDED = "succeeded"
FAILED = "failed"
STOPPED = "stopped"
LOST = "lost"

#: A process that signal n ended has this + n as its exit code, as a shell says it.
SIGNALLED = 128


class AttemptEnded(Exception):
    """The attempt is over; whoever raises it says how. ``grace`` is in seconds, None for the attempt's own."""

    def __init__(self, outcome: Outcome, *, grace: float | None = None) -> None:
        super().__init__((outcome.reason or {}).get("text", outcome.result))
        self.outcome = outcome
        self.grace = grace


class ParentDied(Exception):
    """Whatever started the runner is gone: everything is killed at once and nothing is reported."""


def failed(
    code: ReasonCode, text: str, details: Mapping[str, str] | None = None, *, exit_code: int | None = None
) -> AttemptEnded:
    """The job's own failure, or one that trying again would not mend."""
    return AttemptEnded(Outcome(FAILED, exit_code, Reason(code, text, details or {}).to_json()))


def lost(code: ReasonCode, text: str, details: Mapping[str, str] | None = None) -> AttemptEnded:
    """The infrastructure's failure: the job is not to blame and is queued again."""
    return AttemptEnded(Outcome(LOST, None, Reason(code, text, details or {}).to_json()), grace=0.0)


def isolation_broken(host: HostSpec) -> AttemptEnded:
    """Somebody killed the process that holds the attempt's namespace, and so the kernel all that were in it."""
    return lost(
        ReasonCode.RUNNER_LOST,
        f"The process that held the attempt's processes together on node {host.name} was killed, and they with it: by "
        "somebody on the machine, or by the kernel for want of memory. The job is queued again.",
        {"node": host.name, "nodeId": host.node_id},
    )


def stopped(reason: dict[str, Any], grace: float | None) -> AttemptEnded:
    """Somebody asked for the stop and gave the reason."""
    return AttemptEnded(Outcome(STOPPED, None, reason), grace=grace)


def job_failed(exit_code: int, details: Mapping[str, str] | None = None) -> AttemptEnded:
    """A process of the job ended with another code than 0; where there are several, the details name it."""
    text = "Job failed with non-zero exit code"
    if details:
        text += f": {details['process']} on {details['node']} {how_it_ended(exit_code)}"
    return failed(ReasonCode.JOB_FAILED, text, details, exit_code=exit_code)


def how_it_ended(exit_code: int) -> str:
    """In words; codes above 128 name a signal, as in a shell."""
    with suppress(ValueError):
        if exit_code > SIGNALLED:
            return f"was ended by {signal.Signals(exit_code - SIGNALLED).name} ({exit_code})"
    return f"exited with {exit_code}"


def preparation_failed(exit_code: int, details: Mapping[str, str], *, several: bool = False) -> AttemptEnded:
    """The preparation command line ended with another code than 0 on some node, which is named if there are several."""
    text = "Job preparation task failed with non-zero exit code"
    if several:
        text += f": preparation on {details['node']} {how_it_ended(exit_code)}"
    return failed(ReasonCode.JOB_PREPARATION_FAILED, text, details, exit_code=exit_code)


def out_of_memory(killed: int, limit_mib: int) -> str:
    """What to say when the kernel killed so many processes of a node; its limit, 0 for none."""
    node = f"the node's {limit_mib} MiB" if limit_mib else "the node's memory"
    which = "one of its processes" if killed == 1 else f"{killed} of its processes"
    return (
        f"Out of memory: the kernel killed {which}, which wanted more than {node}. "
        "Take a larger vmSize, or make the job use less"
    )


def wall_clock_exceeded(seconds: float) -> AttemptEnded:
    """constraints.maxWallClockTime has passed."""
    return failed(
        ReasonCode.JOB_WALL_CLOCK_EXCEEDED,
        f"The job ran longer than constraints.maxWallClockTime allows ({seconds:g} s) and was stopped. "
        "Submit it again with a longer maxWallClockTime, or make it save checkpoints and do less in one job.",
        {"maxWallClockSeconds": f"{seconds:g}"},
    )


def directory_error(setting: str, path: str, error: OSError) -> AttemptEnded:
    """A directory that the job needs could not be made or cleared."""
    return failed(
        ReasonCode.JOB_DIRECTORY_ERROR,
        f"{setting}: cannot make the directory {path}: {error.strerror or error}. "
        "Check that the path lies on a mounted volume (or below $AZ_BATCHAI_MOUNT_ROOT) that the node may write to.",
        {"setting": setting, "path": path},
    )
