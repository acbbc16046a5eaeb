"""What happened in a run: lines for a person, a hash that tells two runs apart, and counts of what was reached."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any


class Violation(AssertionError):
    """An invariant does not hold; ``invariant`` names it."""

    def __init__(self, invariant: str, text: str) -> None:
        super().__init__(f"{invariant}: {text}")
        self.invariant = invariant


class Story:
    """Append-only. Lines are made only when somebody reads them."""

    def __init__(self, only: str | None = None) -> None:
        #: The one invariant that is looked at; None for all of them.
        self._only = only
        self._entries: list[tuple[float, str, tuple[Any, ...]]] = []
        self.counts: Counter[str] = Counter()
        self.violation: Violation | None = None
        self.now = 0.0

    def tell(self, what: str, *about: Any) -> None:
        """Something happened now."""
        self._entries.append((self.now, what, about))

    def count(self, what: str) -> None:
        """Something that a summary should have reached was reached."""
        self.counts[what] += 1

    def violated(self, invariant: str, text: str) -> None:
        """The first violation is the one that counts: what follows may be its consequence."""
        if self.violation is None and self._only in (None, invariant):
            self.violation = Violation(invariant, text)
            self.tell("VIOLATION", invariant, text)

    @property
    def hash(self) -> str:
        """The same for two runs in which the same happened at the same times."""
        digest = hashlib.blake2b(digest_size=8)
        for at, what, about in self._entries:
            digest.update(f"{at:.6f} {what} {about}\n".encode())
        return digest.hexdigest()

    def lines(self) -> list[str]:
        """For a person."""
        return [f"{at:9.3f}  {what:<22} {' '.join(map(str, about))}" for at, what, about in self._entries]
