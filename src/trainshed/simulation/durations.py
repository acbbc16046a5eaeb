"""Durations as people write them in traces and for scenarios."""

from __future__ import annotations

import re

from trainshed.resources.times import duration_seconds

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhd])", re.ASCII)


def milliseconds(text: str) -> int:
    """Of a number of seconds, 90s, 15m, 2h, 7d, 1h30m, an ISO 8601 duration or ``[d.]hh:mm:ss``. Raises ValueError."""
    parts = _PART.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    else:
        try:
            seconds = float(text)
        except ValueError:
            try:
                seconds = duration_seconds(text)
            except ValueError:
                raise _refused(text) from None
    if not 0 <= seconds < 1e10:
        raise _refused(text)
    return round(1000 * seconds)


def _refused(text: str) -> ValueError:
    return ValueError(f"{text!r} is not a duration; write seconds, or for example 90s, 15m, 2h30m, 7d, P7D or 12:00:00")
