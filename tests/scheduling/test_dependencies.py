"""When a job may join its queue that waits for another: every state of the other against every condition."""

from __future__ import annotations

import pytest

from trainshed.resources.conditions import Condition
from trainshed.resources.lifecycle import JobState
from trainshed.resources.reasons import ReasonCode
from trainshed.scheduling.dependencies import Dependency, Other, Verdict, impossible, judge, waiting

W, M, X = Verdict.WAITING, Verdict.MET, Verdict.IMPOSSIBLE


@pytest.mark.parametrize(
    ("other", "after", "after_ok", "after_any"),
    [
        (Other(JobState.QUEUED, 0), W, W, W),
        # It was started once and waits to be tried again.
        (Other(JobState.QUEUED, 1), M, W, W),
        (Other(JobState.RUNNING, 1), M, W, W),
        (Other(JobState.TERMINATING, 0), W, W, W),
        (Other(JobState.TERMINATING, 1), M, W, W),
        (Other(JobState.SUCCEEDED, 1), M, M, M),
        (Other(JobState.FAILED, 1), M, X, M),
        # Terminated before it started, or its cluster was deleted.
        (Other(JobState.FAILED, 0), X, X, M),
        # Deleted.
        (None, X, X, M),
    ],
)
def test_each_condition(other: Other | None, after: Verdict, after_ok: Verdict, after_any: Verdict) -> None:
    assert [judge(condition, other) for condition in Condition] == [after, after_ok, after_any]


def test_what_is_decided_stays_so() -> None:
    """Along the lifecycle of the other job a verdict changes once at most: what is met may be forgotten."""
    lives = [
        [Other(JobState.QUEUED, 0), Other(JobState.RUNNING, 1), Other(JobState.QUEUED, 1), Other(JobState.RUNNING, 2)],
        [Other(JobState.QUEUED, 0), Other(JobState.TERMINATING, 0), Other(JobState.FAILED, 0), None],
    ]
    for end in (JobState.SUCCEEDED, JobState.FAILED):
        lives.append([*lives[0], Other(end, 2)])  # type: ignore[list-item]
    for life in lives:
        for condition in Condition:
            verdicts = [judge(condition, other) for other in life]
            decided = [verdict for verdict in verdicts if verdict is not W]
            assert len(set(decided)) <= 1 and verdicts == [W] * (len(verdicts) - len(decided)) + decided


def test_the_reason_to_wait_names_jobs_and_their_states() -> None:
    unmet = [
        Dependency("prepare", Condition.AFTER_OK, Other(JobState.RUNNING, 1)),
        Dependency("other/server", Condition.AFTER, Other(JobState.QUEUED, 0)),
    ]
    reason = waiting(unmet)
    assert reason.code is ReasonCode.WAITING_FOR_DEPENDENCIES
    assert reason.text.startswith("It waits for prepare to succeed (running), other/server to start (queued). ")
    assert reason.details == {"prepare": "running", "other/server": "queued"}
    many = waiting([Dependency(f"j{n}", Condition.AFTER_ANY, Other(JobState.QUEUED, 0)) for n in range(10)])
    assert "j2 to end (queued) and 7 more. " in many.text and "j3" not in many.text


@pytest.mark.parametrize(
    ("condition", "other", "said"),
    [
        (Condition.AFTER_OK, Other(JobState.FAILED, 1), "had succeeded (afterOk), but that one failed"),
        (Condition.AFTER_OK, None, "had succeeded (afterOk), but that one was deleted"),
        (Condition.AFTER, Other(JobState.FAILED, 0), "had started (after), but that one ended without having started"),
    ],
)
def test_the_reason_to_fail_names_the_other(condition: Condition, other: Other | None, said: str) -> None:
    reason = impossible(Dependency("prepare", condition, other))
    assert reason.code is ReasonCode.DEPENDENCY_FAILED
    assert "once job prepare " in reason.text and said in reason.text
    assert reason.details["job"] == "prepare" and reason.details["condition"] == condition.value
