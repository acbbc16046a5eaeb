"""The ``Range`` header for one range of bytes (RFC 9110 section 14)."""

from __future__ import annotations

import re

_BYTES = re.compile(r"bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*", re.ASCII | re.IGNORECASE)
_LONGEST_NUMBER = 18


class RangeNotSatisfiable(Exception):
    """The range begins at or after the end."""


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """First byte and the one after the last, or None when the whole is to be sent.

    None also for several ranges and for what is no range at all, as the RFC allows. Raises RangeNotSatisfiable.
    """
    match = _BYTES.fullmatch(header.strip()) if header else None
    if match is None:
        return None
    first, last = match.groups()
    if max(len(first), len(last)) > _LONGEST_NUMBER or not (first or last):
        return None
    if not first:
        if int(last) == 0 or size == 0:
            raise RangeNotSatisfiable
        return max(0, size - int(last)), size
    if last and int(last) < int(first):
        return None
    if int(first) >= size:
        raise RangeNotSatisfiable
    return int(first), min(int(last) + 1, size) if last else size
