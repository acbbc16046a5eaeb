"""Failed nodes are tried again with growing pauses, so many times, and then left to a person."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trainshed.scheduling.replacing import Recovery, ReplacementPolicy

POLICY = ReplacementPolicy(first=60, longest=600, tries=5)


def fail_until_given_up(policy: ReplacementPolicy, most: int = 100) -> list[int]:
    """The pauses in seconds, when every try fails at once."""
    now, pauses = 0, []
    recovery: Recovery | None = None
    for _ in range(most):
        recovery = Recovery.after_failure(recovery, now, policy)
        if recovery.next_try is None:
            break
        pauses.append((recovery.next_try - now) // 1000)
        now = recovery.next_try
        recovery = recovery.trying(now)
    return pauses


def test_pauses_double_up_to_the_longest_and_end() -> None:
    assert fail_until_given_up(POLICY) == [60, 120, 240, 480, 600]


def test_without_a_number_of_tries_it_goes_on() -> None:
    assert len(fail_until_given_up(ReplacementPolicy(tries=None), most=50)) == 50


def test_failures_while_it_waits_change_nothing() -> None:
    waiting = Recovery.after_failure(None, 0, POLICY)
    assert Recovery.after_failure(waiting, 59_000, POLICY) == waiting
    given_up = Recovery(6, None, 5, given_up=True)
    assert Recovery.after_failure(given_up, 10**9, POLICY) == given_up


def test_it_is_due_at_its_time_and_over_when_all_went_well_for_as_long_as_the_pause() -> None:
    waiting = Recovery.after_failure(None, 0, POLICY)
    assert not waiting.due(59_999) and waiting.due(60_000)
    assert not waiting.over(10**9, POLICY), "it has not been tried"
    trying = waiting.trying(60_000)
    assert not trying.over(119_999, POLICY) and trying.over(120_000, POLICY)
    assert trying.looked_at(POLICY) == 120_000


def test_a_person_s_resize_is_forgotten_at_once_when_it_works() -> None:
    assert Recovery(0, 0).trying(5).over(5, POLICY)


@given(st.integers(0, 40), st.none() | st.integers(0, 10**13), st.none() | st.integers(0, 10**13), st.booleans())
def test_what_is_stored_is_read_back(failures: int, next_try: int | None, tried_at: int | None, given_up: bool) -> None:
    recovery = Recovery(failures, next_try, tried_at, given_up)
    assert Recovery.from_json(recovery.to_json()) == recovery
