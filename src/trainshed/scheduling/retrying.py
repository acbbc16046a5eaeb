"""Whether a job that failed by itself is tried again, and when: its ``retryPolicy``, applied."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from trainshed.resources.times import duration_seconds


@dataclass(frozen=True, slots=True)
class Retrying:
    """A job's ``retryPolicy`` in numbers. Delays are in milliseconds."""

    max_retries: int = 0
    #: None for every exit code but 0.
    exit_codes: frozenset[int] | None = None
    initial_delay: int = 0
    multiplier: float = 1.0
    max_delay: int = 0

    @classmethod
    def of(cls, definition: Mapping[str, Any]) -> Self:
        """The policy of a job's stored properties; without one nothing is tried again."""
        policy = definition.get("retryPolicy")
        if policy is None:
            return cls()
        backoff, codes = policy["backoff"], policy.get("exitCodes")
        return cls(
            max_retries=policy["maxRetries"],
            exit_codes=None if codes is None else frozenset(codes),
            initial_delay=_ms(backoff["initialDelay"]),
            multiplier=float(backoff["multiplier"]),
            max_delay=_ms(backoff["maxDelay"]),
        )

    def covers(self, exit_code: int | None) -> bool:
        """Whether failures with this exit code are forgiven. One without an exit code never is: the wall clock, a
        directory or a program that is missing would be the same the next time.
        """
        if exit_code is None or exit_code == 0:
            return False
        return self.exit_codes is None or exit_code in self.exit_codes

    def delay(self, retries: int) -> int:
        """Milliseconds to wait after a failure when ``retries`` were forgiven before it."""
        return round(min(self.initial_delay * self.multiplier**retries, self.max_delay))

    def after(self, exit_code: int | None, retries: int) -> int | None:
        """Milliseconds until the job is tried again; None when it has failed for good."""
        if retries >= self.max_retries or not self.covers(exit_code):
            return None
        return self.delay(retries)


def _ms(duration: str) -> int:
    return round(1000 * duration_seconds(duration))
