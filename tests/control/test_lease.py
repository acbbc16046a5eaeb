"""When a lease is renewed, given up and asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainshed.control.lease import LEAST_SECONDS, MOST_SECONDS, LeaseTimes

SECONDS = st.floats(LEAST_SECONDS, MOST_SECONDS)
MOMENTS = st.floats(0, 1e6)


@given(SECONDS, MOMENTS)
def test_several_renewals_may_fail_before_the_holder_gives_up(seconds: float, asked_at: float) -> None:
    times = LeaseTimes(seconds)
    first = times.until_renewal(asked_at, asked_at)
    assert 3 * first < times.until_over(asked_at, asked_at)
    assert times.until_renewal(asked_at, asked_at, failed=True) <= first


@given(SECONDS, MOMENTS, st.floats(0, 5))
def test_the_holder_gives_up_before_anybody_else_can_have_it(seconds: float, asked_at: float, delay: float) -> None:
    """The database grants it after it was asked, so the lease ends later than what the holder counts on."""
    times = LeaseTimes(seconds)
    ends_for_others = asked_at + delay + seconds
    assert asked_at + times.until_over(asked_at, asked_at) < ends_for_others
    assert times.until_over(asked_at, asked_at + seconds) == 0


@given(SECONDS, st.floats(0.001, 1000))
def test_another_s_lease_is_asked_for_just_after_it_ends(seconds: float, left: float) -> None:
    pause = LeaseTimes(seconds).until_asked_for(left)
    # Never later than one's own lease lasts: the other may have been told another length.
    assert min(left, seconds) < pause < min(left, seconds) + 0.1


def test_a_lease_that_is_over_is_asked_for_again_and_again_but_not_at_once() -> None:
    assert 0 < LeaseTimes().until_asked_for(0) < 1


@pytest.mark.parametrize("seconds", [0, 1.9, 301])
def test_other_lengths_are_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="2 to 300"):
        LeaseTimes(seconds)
