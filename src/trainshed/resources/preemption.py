"""What pre-emption gives its victim: a signal, some seconds to save its work, and what its end then means.

Standard library only: the runner uses it too.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from trainshed.resources.reasons import ReasonCode
from trainshed.resources.times import duration_seconds

#: Signals that a job may ask for. NCCL and Python's own machinery leave SIGUSR2 alone, which is why submitit chose it.
WARNING_SIGNALS = ("SIGUSR2", "SIGUSR1", "SIGTERM", "SIGINT")
DEFAULT_SIGNAL: Literal["SIGUSR2"] = "SIGUSR2"
#: What a job gets that does not say; Kubernetes gives as much.
DEFAULT_GRACE_PERIOD = "PT30S"
#: What a cluster gives at most when it does not say.
DEFAULT_MAX_GRACE_PERIOD = "PT10M"

#: Failures that a warning does not excuse: the job would meet them again, or its time was up anyway.
_NOT_EXCUSED = frozenset({ReasonCode.JOB_WALL_CLOCK_EXCEEDED.value, ReasonCode.JOB_DISK_LIMIT_EXCEEDED.value})


@dataclass(frozen=True, slots=True)
class StopWarning:
    """What the processes of a gang get before they are stopped: a signal, and so many seconds until SIGTERM."""

    signal: str = DEFAULT_SIGNAL
    seconds: float = 30.0

    @property
    def number(self) -> int:
        """Of the signal on this machine."""
        return signal.Signals[self.signal].value

    def to_json(self) -> dict[str, Any]:
        """As it is stored and sent between processes."""
        return {"signal": self.signal, "seconds": self.seconds}

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | None) -> Self | None:
        """Read what ``to_json`` wrote; None stays None."""
        return None if data is None else cls(data["signal"], float(data["seconds"]))


def warning_signal(job: Mapping[str, Any]) -> str:
    """The signal that a job of these stored properties is warned with."""
    return str((job.get("preemption") or {}).get("signal", DEFAULT_SIGNAL))


def warning_of(job: Mapping[str, Any], cluster: Mapping[str, Any] | None = None) -> StopWarning | None:
    """The warning that a pre-empted job gets: what it wants, as far as its cluster gives that; None for none.

    Both are stored properties. ``cluster`` is None when it is gone.
    """
    wanted = duration_seconds((job.get("preemption") or {}).get("gracePeriod", DEFAULT_GRACE_PERIOD))
    given = duration_seconds(((cluster or {}).get("preemption") or {}).get("maxGracePeriod", DEFAULT_MAX_GRACE_PERIOD))
    seconds = min(wanted, given)
    return StopWarning(warning_signal(job), seconds) if seconds > 0 else None


def may_preempt(cluster: Mapping[str, Any]) -> bool:
    """Whether jobs of a cluster with these stored properties may take nodes from jobs of lower priority."""
    return bool((cluster.get("preemption") or {}).get("enabled", False))


def usual_grace(cluster: Mapping[str, Any]) -> float:
    """How many seconds a job that does not say has on a cluster with these stored properties."""
    warning = warning_of({}, cluster)
    return 0.0 if warning is None else warning.seconds


def excused(code: str | None) -> bool:
    """Whether a job that failed with this reason after it was warned was pre-empted rather than has failed.

    0 would have meant that all its work is done; anything else that it left, as it was asked to.
    """
    return code not in _NOT_EXCUSED
