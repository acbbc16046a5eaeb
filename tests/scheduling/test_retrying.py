"""retryPolicy as a table, and what holds for every back-off."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainshed.scheduling.retrying import Retrying


def policy(**more: Any) -> Retrying:
    backoff = {"initialDelay": "PT10S", "multiplier": 2.0, "maxDelay": "PT1M", **more.pop("backoff", {})}
    return Retrying.of({"retryPolicy": {"maxRetries": 3, "backoff": backoff, **more}})


@pytest.mark.parametrize(
    ("of", "exit_code", "retries", "expected"),
    [
        (policy(), 1, 0, 10_000),
        (policy(), 1, 1, 20_000),
        (policy(), 255, 2, 40_000),
        (policy(), 1, 3, None),
        (policy(), 1, 4, None),
        (policy(maxRetries=9), 1, 8, 60_000),
        (policy(maxRetries=0), 1, 0, None),
        (policy(), None, 0, None),
        (policy(), 0, 0, None),
        (policy(exitCodes=[3, 75]), 75, 0, 10_000),
        (policy(exitCodes=[3, 75]), 1, 0, None),
        (policy(exitCodes=[3, 75]), None, 0, None),
        (policy(backoff={"initialDelay": "PT0S"}), 1, 2, 0),
        (policy(backoff={"maxDelay": "PT0S"}), 1, 2, 0),
        (policy(backoff={"multiplier": 1}), 1, 2, 10_000),
        (policy(backoff={"initialDelay": "PT0.25S", "multiplier": 1.5}), 1, 1, 375),
        (Retrying.of({}), 1, 0, None),
    ],
)
def test_whether_and_when(of: Retrying, exit_code: int | None, retries: int, expected: int | None) -> None:
    assert of.after(exit_code, retries) == expected


@given(
    initial=st.integers(0, 10**9),
    longest=st.integers(0, 10**9),
    multiplier=st.floats(1, 10),
    retries=st.integers(0, 100),
)
def test_pauses_never_shrink_and_never_pass_the_longest(
    initial: int, longest: int, multiplier: float, retries: int
) -> None:
    of = Retrying(101, None, initial, multiplier, longest)
    pauses = [of.delay(number) for number in range(retries + 1)]
    assert pauses == sorted(pauses)
    assert pauses[0] == min(initial, longest)
    assert all(0 <= pause <= longest for pause in pauses)
