"""Times and durations."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainshed.resources.times import (
    duration_seconds,
    format_duration,
    format_time,
    format_time_seconds,
    parse_time,
)


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (1528319162350, "2018-06-06T21:06:02.35Z"),
        (1528948138000, "2018-06-14T03:48:58Z"),
        (1528319162001, "2018-06-06T21:06:02.001Z"),
        (0, "1970-01-01T00:00:00Z"),
    ],
)
def test_times_as_the_service_wrote_them(ms: int, text: str) -> None:
    assert format_time(ms) == text


def test_times_of_files_have_whole_seconds() -> None:
    assert format_time_seconds(1528319162350) == "2018-06-06T21:06:02Z"


@given(st.integers(0, 4_102_444_800_000))
def test_times_survive_writing_and_reading(ms: int) -> None:
    assert parse_time(format_time(ms)) == ms


@pytest.mark.parametrize("text", ["", "soon", "2018-06-06T21:06:02"])
def test_bad_times(text: str) -> None:
    with pytest.raises(ValueError):
        parse_time(text)


@pytest.mark.parametrize(
    ("text", "seconds", "canonical"),
    [
        ("P7D", 604_800, "P7D"),
        ("7.00:00:00", 604_800, "P7D"),
        ("P1W", 604_800, "P7D"),
        ("PT2H", 7200, "PT2H"),
        ("PT90M", 5400, "PT1H30M"),
        ("PT36H", 129_600, "P1DT12H"),
        ("P1DT2H3M4.5S", 93_784.5, "P1DT2H3M4.5S"),
        ("00:10:00", 600, "PT10M"),
        ("1:02:03", 3723, "PT1H2M3S"),
        ("PT0S", 0, "PT0S"),
        ("P150D", 12_960_000, "P150D"),
    ],
)
def test_durations(text: str, seconds: float, canonical: str) -> None:
    assert duration_seconds(text) == seconds
    assert format_duration(seconds) == canonical


@given(st.integers(0, 10**12).map(lambda ms: ms / 1000))
def test_durations_survive_writing_and_reading(seconds: float) -> None:
    assert duration_seconds(format_duration(seconds)) == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize(
    "text", ["", "P", "PT", "P1DT", "P1Y", "P1M", "-P1D", "7", "25:00:00", "0:60:00", "P1D ", "２:00:00"]
)
def test_bad_durations_are_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match=r"P7D|days before a point"):
        duration_seconds(text)


def test_negative_durations_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="negative"):
        format_duration(-1)
