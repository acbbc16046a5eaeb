"""Times and sizes as people say them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from trainshed.resources.times import spoken_duration as duration

__all__ = ["ago", "duration", "iso_duration", "moment", "size", "starts_in"]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhd])")


def ago(then: datetime | None, now: datetime | None = None) -> str:
    """``3 min ago``; empty for None."""
    if then is None:
        return ""
    seconds = ((now or datetime.now(UTC)) - then).total_seconds()
    return "now" if seconds < 1 else f"{duration(seconds)} ago"


def starts_in(estimate: Mapping[str, str] | None, now: datetime | None = None) -> str:
    """An estimated start: ``in 5 min to 2 h``, ``after 5 min`` when there is no latest; empty for None."""
    if not estimate:
        return ""
    now = now or datetime.now(UTC)
    earliest = max(0.0, (datetime.fromisoformat(estimate["earliest"]) - now).total_seconds())
    if "latest" not in estimate:
        return f"after {duration(earliest)}"
    latest = max(earliest, (datetime.fromisoformat(estimate["latest"]) - now).total_seconds())
    first, last = duration(earliest), duration(latest)
    if latest < 1:
        return "now"
    return f"in {last}" if first == last else f"in {first} to {last}"


def size(count: int | None) -> str:
    """Bytes with the unit that fits; empty for None."""
    if count is None:
        return ""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def moment(text: str, now: datetime | None = None) -> datetime:
    """``10m`` (so long ago), ``2026-11-21T09:30:00Z``, or a local time without a zone. Raises ValueError."""
    parts = _PART.findall(text.lower())
    if parts and "".join(number + unit for number, unit in parts) == text.lower():
        seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
        try:
            return (now or datetime.now(UTC)) - timedelta(seconds=seconds)
        except OverflowError:
            pass
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r} is no time; give it as 90s, 10m, 2h or 1d (so long ago) or as 2026-11-21T09:30:00Z"
        ) from None


def iso_duration(text: str, *, zero: bool = False) -> str:
    """``90s``, ``15m``, ``2h``, ``1d12h`` or ISO 8601 as ISO 8601; with ``zero`` also ``0``.

    Raises ValueError for anything else.
    """
    if zero and text == "0":
        return "PT0S"
    if text.upper().startswith("P"):
        return text.upper()
    parts = _PART.findall(text.lower())
    if not parts or "".join(number + unit for number, unit in parts) != text.lower():
        raise ValueError(f"{text!r} is not a duration; give it as 90s, 15m, 2h, 1d or 1h30m")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if seconds <= 0 and not zero:
        raise ValueError("a time limit is longer than zero")
    return f"PT{seconds:g}S" if seconds < 1e6 else f"PT{seconds:.0f}S"
