"""The queue and the rules as people see and write them."""

from __future__ import annotations

from datetime import UTC, datetime

import click
import pytest

from tests.cli.conftest import Run
from trainshed.cli.commands.workspace_rules import _limit
from trainshed.cli.times import starts_in

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("user:nodes=4", {"scope": "user", "measure": "nodes", "amount": 4}),
        ("user/ann@x.org:runningJobs=2", {"scope": "user", "name": "ann@x.org", "measure": "runningJobs", "amount": 2}),
        (
            "workspace:cost=12.5/P30D,soft",
            {"scope": "workspace", "measure": "cost", "amount": 12.5, "period": "P30D", "hard": False},
        ),
    ],
)
def test_a_limit_in_one_word(text: str, limit: dict[str, object]) -> None:
    assert _limit(text) == limit


@pytest.mark.parametrize("text", ["", "user", "user:nodes", "user:nodes=x", "user:nodes=4,maybe", "nodes=4"])
def test_what_is_no_limit_is_told_with_the_form(text: str) -> None:
    with pytest.raises(click.BadParameter, match="write SCOPE"):
        _limit(text)


@pytest.mark.parametrize(
    ("earliest", "latest", "said"),
    [
        ("2026-11-21T12:00:00Z", "2026-11-21T12:00:00.5Z", "now"),
        ("2026-11-21T12:05:00Z", "2026-11-21T14:05:00Z", "in 5 min to 2 h 5 min"),
        ("2026-11-21T12:05:00Z", "2026-11-21T12:05:10Z", "in 5 min"),
        ("2026-11-21T12:05:00Z", None, "after 5 min"),
        ("2026-11-21T11:00:00Z", "2026-11-21T12:00:30Z", "in 0.0 s to 30 s"),
    ],
)
def test_when_a_job_starts(earliest: str, latest: str | None, said: str) -> None:
    estimate = {"earliest": earliest} | ({"latest": latest} if latest else {})
    assert starts_in(estimate, NOW) == said


def test_no_estimate_says_nothing() -> None:
    assert starts_in(None) == ""


def test_rules_need_something_to_change(trainshed: Run) -> None:
    result = trainshed("workspace", "rules", "set")
    assert result.code == 2
    assert "--fair-share" in result.err
