"""Times and durations on the wire (rest-contract section 1).

Inside, a time is a Unix time in whole milliseconds (UTC) and a duration a number of seconds.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = 86_400

_ISO = re.compile(
    r"P(?:(?P<weeks>\d+)W)?(?:(?P<days>\d+)D)?"
    r"(?:T(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+(?:[.,]\d{1,9})?)S)?)?",
    re.ASCII,
)
_CLOCK = re.compile(
    r"(?:(?P<days>\d+)\.)?(?P<hours>\d{1,2}):(?P<minutes>[0-5]?\d):(?P<seconds>[0-5]?\d(?:\.\d{1,9})?)", re.ASCII
)


def format_time(ms: int) -> str:
    """``2018-06-06T21:06:02.35Z``: UTC, milliseconds with trailing zeros trimmed."""
    moment = _EPOCH + timedelta(milliseconds=ms)
    text = moment.strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f"{ms % 1000:03d}".rstrip("0")
    return f"{text}.{fraction}Z" if fraction else f"{text}Z"


def format_time_seconds(ms: int) -> str:
    """As format_time, but whole seconds: what lastModified of files has (rest-contract section 9)."""
    return format_time(ms - ms % 1000)


def parse_time(text: str) -> int:
    """Milliseconds of an RFC 3339 time. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"time {text!r} has no zone; write for example 2018-06-06T21:06:02Z")
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def duration_seconds(text: str) -> float:
    """Seconds of an ISO 8601 duration (``P7D``, ``PT2H30M``) or of ``[d.]hh:mm:ss``.

    Years and months have no fixed length and are refused, as are negative durations.
    Raises ValueError with the way out.
    """
    match = _ISO.fullmatch(text) or _CLOCK.fullmatch(text)
    if match is None or text in ("P", "PT") or text.endswith("T"):
        raise ValueError(
            f"{text!r} is not a duration; write ISO 8601 such as P7D, PT2H or PT90S, or d.hh:mm:ss such as 7.00:00:00"
        )
    parts = {name: float(value.replace(",", ".")) for name, value in match.groupdict().items() if value}
    if "hours" in parts and match.re is _CLOCK and parts["hours"] > 23:
        raise ValueError(f"{text!r} has more than 23 hours; write the days before a point, such as 1.12:00:00")
    days = parts.get("weeks", 0) * 7 + parts.get("days", 0)
    return days * _DAY + parts.get("hours", 0) * 3600 + parts.get("minutes", 0) * 60 + parts.get("seconds", 0)


def format_duration(seconds: float) -> str:
    """The canonical ISO 8601 form: days, hours, minutes, seconds, zero parts left out; ``PT0S`` for nothing."""
    ms = round(seconds * 1000)
    if ms < 0:
        raise ValueError("a duration cannot be negative")
    days, rest = divmod(ms, _DAY * 1000)
    hours, rest = divmod(rest, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    whole, fraction = divmod(rest, 1000)
    clock = f"{hours}H" if hours else ""
    clock += f"{minutes}M" if minutes else ""
    if whole or fraction:
        clock += f"{whole}.{fraction:03d}".rstrip("0") + "S" if fraction else f"{whole}S"
    text = f"P{days}D" if days else "P"
    text += f"T{clock}" if clock else ""
    return text if text != "P" else "PT0S"


def spoken_duration(seconds: float) -> str:
    """As people say it: ``0.4 s``, ``12 s``, ``3 min``, ``2 h 5 min``, ``4 d``."""
    if seconds < 10:
        return f"{max(seconds, 0):.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} d"
