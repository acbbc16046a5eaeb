"""Durations as members of a body: ISO 8601 or ``d.hh:mm:ss`` goes in, canonical ISO 8601 is stored."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from trainshed.resources.times import duration_seconds, format_duration

#: Longest duration that is taken, in seconds: ten years.
LONGEST = 3650 * 86_400


def _canonical(given: Any) -> Any:
    if not isinstance(given, str):
        return given
    try:
        seconds = duration_seconds(given)
    except ValueError as error:
        raise PydanticCustomError("duration", "is not allowed: {reason}.", {"reason": str(error)}) from None
    if seconds > LONGEST:
        raise PydanticCustomError("duration", "is not allowed: ten years (P3650D) is the longest.")
    return format_duration(seconds)


def _some_time(given: Any) -> Any:
    canonical = _canonical(given)
    if canonical == "PT0S":
        raise PydanticCustomError("duration", "is not allowed: a job needs some time. Write for example P7D or PT2H.")
    return canonical


#: Longer than nothing.
Duration = Annotated[str, BeforeValidator(_some_time), Field(examples=["P7D"])]
#: ``PT0S`` is allowed.
DurationOrZero = Annotated[str, BeforeValidator(_canonical), Field(examples=["PT5M"])]
