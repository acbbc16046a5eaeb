"""When a lease is renewed, given up and asked for: arithmetic on seconds, without a clock of its own."""

from __future__ import annotations

from dataclasses import dataclass

#: Least and most seconds of a lease. A process that is busy for shorter must not lose it.
LEAST_SECONDS, MOST_SECONDS = 2.0, 300.0
DEFAULT_SECONDS = 10.0

#: How much of the lease passes between two renewals, and after which its holder stops by itself when none succeeds.
_RENEW_EVERY, _GIVE_UP_AFTER = 0.2, 0.8
#: Seconds between two attempts when one failed, and beyond another's lease before it is asked for.
_TRY_AGAIN, _MARGIN = 0.25, 0.02


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """The times that follow from how long a lease lasts, in seconds."""

    seconds: float = DEFAULT_SECONDS

    def __post_init__(self) -> None:
        if not LEAST_SECONDS <= self.seconds <= MOST_SECONDS:
            raise ValueError(f"a lease lasts {LEAST_SECONDS:g} to {MOST_SECONDS:g} seconds, not {self.seconds:g}")

    def until_renewal(self, asked_at: float, now: float, *, failed: bool = False) -> float:
        """Seconds until the next renewal, the last one having been asked for at ``asked_at``; ``failed``: in vain."""
        every = _TRY_AGAIN if failed else _RENEW_EVERY * self.seconds
        return max(0.0, asked_at + every - now)

    def until_over(self, confirmed_at: float, now: float) -> float:
        """Seconds until the holder must consider the lease lost; 0 when it must now.

        ``confirmed_at`` is when the last renewal that succeeded was asked for: the database granted it no earlier, so
        that this ends before the database lets anybody else have it, as long as the two clocks run equally fast.
        """
        return max(0.0, confirmed_at + _GIVE_UP_AFTER * self.seconds - now)

    def until_asked_for(self, left: float) -> float:
        """Seconds until another's lease, which has this long left, is asked for: not before it can be had."""
        return _MARGIN + min(left, self.seconds) if left > 0 else _TRY_AGAIN
