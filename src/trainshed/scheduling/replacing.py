"""When nodes that cannot be used, or could not be had, are tried again: back-off, a cap, and a person after that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True)
class ReplacementPolicy:
    """How often, and with which pauses. Times in seconds."""

    first: float = 60.0
    longest: float = 3600.0
    #: Tries after which a cluster waits for a person to resize it; None: it is tried for ever.
    tries: int | None = 10

    def delay_ms(self, failures: int) -> int:
        """Milliseconds to wait after the failure of this number (1: the first)."""
        return round(1000 * min(self.longest, self.first * 2.0 ** max(0, failures - 1)))


@dataclass(frozen=True, slots=True)
class Recovery:
    """How far a cluster is that lost nodes or could not have them. A cluster that is well has none.

    It *waits* (``next_try`` is set), *tries* (it is not, and ``tried_at`` says since when), or was *given up*.
    """

    #: Rounds that failed one after another.
    failures: int
    #: Unix ms.
    next_try: int | None
    tried_at: int | None = None
    given_up: bool = False

    @classmethod
    def after_failure(cls, former: Recovery | None, now: int, policy: ReplacementPolicy) -> Recovery:
        """Nodes failed: wait for the next try, longer than before, or give up. One that waits already stays."""
        if former is not None and (former.given_up or former.next_try is not None):
            return former
        failures = (former.failures if former else 0) + 1
        if policy.tries is not None and failures > policy.tries:
            return cls(failures, None, former.tried_at if former else None, given_up=True)
        return cls(failures, now + policy.delay_ms(failures), former.tried_at if former else None)

    def due(self, now: int) -> bool:
        """Whether it is time to try again."""
        return self.next_try is not None and now >= self.next_try

    @property
    def blocked(self) -> bool:
        """Whether no nodes are asked for: it waits or was given up."""
        return self.given_up or self.next_try is not None

    def trying(self, now: int) -> Recovery:
        """The try begins."""
        return Recovery(self.failures, None, now)

    def over(self, now: int, policy: ReplacementPolicy) -> bool:
        """Whether a cluster whose nodes are all well may forget it: nothing failed for as long as the last pause."""
        if self.next_try is not None:
            return False
        return self.failures == 0 or self.tried_at is None or now - self.tried_at >= policy.delay_ms(self.failures)

    def looked_at(self, policy: ReplacementPolicy) -> int | None:
        """When (Unix ms) it is worth another look: the next try, or when it may be forgotten."""
        if self.next_try is not None or self.tried_at is None:
            return self.next_try
        return self.tried_at + policy.delay_ms(self.failures)

    def to_json(self) -> dict[str, Any]:
        """As it is stored."""
        return {
            "failures": self.failures,
            "nextTry": self.next_try,
            "triedAt": self.tried_at,
            "givenUp": self.given_up,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what ``to_json`` wrote."""
        return cls(data["failures"], data["nextTry"], data["triedAt"], data["givenUp"])
