"""How long a job is warned, and what its end then means."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from trainshed.resources.preemption import WARNING_SIGNALS, StopWarning, excused, may_preempt, warning_of


@pytest.mark.parametrize(
    ("job", "cluster", "warning"),
    [
        ({}, None, StopWarning("SIGUSR2", 30.0)),
        ({}, {}, StopWarning("SIGUSR2", 30.0)),
        ({"signal": "SIGTERM", "gracePeriod": "PT5M"}, {}, StopWarning("SIGTERM", 300.0)),
        ({"gracePeriod": "PT2H"}, None, StopWarning("SIGUSR2", 600.0)),
        ({"gracePeriod": "PT2H"}, {"maxGracePeriod": "PT3H"}, StopWarning("SIGUSR2", 7200.0)),
        ({}, {"maxGracePeriod": "PT10S"}, StopWarning("SIGUSR2", 10.0)),
        ({"gracePeriod": "PT0S"}, {}, None),
        ({}, {"maxGracePeriod": "PT0S"}, None),
    ],
)
def test_the_cluster_limits_what_the_job_wants(
    job: dict[str, Any], cluster: dict[str, Any] | None, warning: StopWarning | None
) -> None:
    assert warning_of({"preemption": job}, None if cluster is None else {"preemption": cluster}) == warning


def test_every_signal_exists_and_goes_to_disk_and_back() -> None:
    for name in WARNING_SIGNALS:
        warning = StopWarning(name, 1.5)
        assert warning.number == signal.Signals[name]
        assert StopWarning.from_json(warning.to_json()) == warning
    assert StopWarning.from_json(None) is None


def test_clusters_preempt_only_when_they_say_so() -> None:
    assert [may_preempt(c) for c in ({}, {"preemption": {"enabled": False}}, {"preemption": {"enabled": True}})] == [
        False,
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("code", "expected"),
    [("JobFailed", True), ("JobRankFailed", True), (None, True), ("JobMaxWallClockTimeExceeded", False),
     ("JobDiskLimitExceeded", False)],
)  # fmt: skip
def test_excused(code: str | None, expected: bool) -> None:
    assert excused(code) is expected
