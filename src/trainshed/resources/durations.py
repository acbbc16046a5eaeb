"""Durations as members of a body: ISO 8601 or ``d.hh:mm:ss`` goes in, canonical ISO 8601 is stored."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from trainshed.resources.times import duration_seconds, format_duration

#: Days that a .NET TimeSpan holds, which the original's durations were. More is no limit, and overflows databases.
_LONGEST_DAYS = 10_675_199
#: Longest warning before a job is pre-empted, in days.
_LONGEST_WARNING_DAYS = 1
#: Longest pause in days: ten years.
_LONGEST_PAUSE_DAYS = 3650


def _canonical(given: Any, longest_days: int) -> Any:
    if not isinstance(given, str):
        return given
    try:
        seconds = duration_seconds(given)
    except ValueError as error:
        raise PydanticCustomError("duration", "is not allowed: {reason}.", {"reason": str(error)}) from None
    if seconds > longest_days * 86_400:
        raise PydanticCustomError("duration", "is not allowed: the longest is P{most}D.", {"most": longest_days})
    return format_duration(seconds)


def _some_time(given: Any) -> Any:
    canonical = _canonical(given, _LONGEST_DAYS)
    if isinstance(canonical, str) and duration_seconds(canonical) < 0.001:
        raise PydanticCustomError("duration", "is not allowed: a job needs some time. Write for example P7D or PT2H.")
    return canonical


#: Longer than nothing.
Duration = Annotated[str, BeforeValidator(_some_time), Field(examples=["P7D"])]


def _pause(given: Any) -> Any:
    return _canonical(given, _LONGEST_PAUSE_DAYS)


#: ``PT0S`` is allowed.
DurationOrZero = Annotated[str, BeforeValidator(_pause), Field(examples=["PT5M"])]


def _warning(given: Any) -> Any:
    return _canonical(given, _LONGEST_WARNING_DAYS)


#: At most a day; ``PT0S`` is allowed.
GracePeriod = Annotated[str, BeforeValidator(_warning), Field(examples=["PT30S"])]
