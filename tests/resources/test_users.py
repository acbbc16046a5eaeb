"""Ids of workspaces in the configured range."""

from __future__ import annotations

import pytest

from trainshed.resources.users import DEFAULT_RANGE, JobUser, UserRange


def test_each_workspace_has_two_ids() -> None:
    users = UserRange(2000, 2007)
    assert [users.user(number) for number in (1, 2, 4)] == [
        JobUser(2000, 2001),
        JobUser(2002, 2003),
        JobUser(2006, 2007),
    ]


@pytest.mark.parametrize("number", [0, -1, 5, 10**9])
def test_a_workspace_beyond_the_range_has_a_problem(number: int) -> None:
    problem = UserRange(2000, 2007).user(number).problem
    assert "2000-2007" in problem and str(number) in problem and "TRAINSHED_JOB_USERS" in problem


def test_an_odd_range_serves_the_whole_pairs() -> None:
    assert UserRange(2000, 2004).workspaces == 2
    assert UserRange(2000, 2004).user(3).problem


def test_the_default_is_a_range() -> None:
    assert str(UserRange.parse(DEFAULT_RANGE)) == DEFAULT_RANGE
    assert UserRange.parse(DEFAULT_RANGE).workspaces == 32768


@pytest.mark.parametrize(
    "text",
    ["", "2000", "2000-", "-2000", "a-b", "2000-2000", "3000-2000", "0-100", "999-2000", "2000-4294967295", "٣-٤"],
)
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="range of user ids"):
        UserRange.parse(text)
