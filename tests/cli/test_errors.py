"""How errors look and what they exit with."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Run
from tests.client.stub_service import EXPERIMENT, StubService, answer, refusal


def test_without_a_service_the_command_that_starts_one_is_named(trainshed: Run) -> None:
    result = trainshed("job", "list")
    assert result.code == 1
    assert result.err.startswith("error: NoService: no service is running")
    assert result.err.endswith("try: trainshed serve\n")


def test_absence_exits_3(trainshed: Run, stub: StubService) -> None:
    stub.on("GET", f"{EXPERIMENT}/jobs/j", refusal(404, "JobNotFound", "The specified job j is not found"))
    result = trainshed("job", "show", "j")
    assert (result.code, result.out) == (3, "")
    assert result.err.splitlines() == [
        "error: JobNotFound: The specified job j is not found",
        "try: trainshed job list (an array, by its name: trainshed job list --array NAME)",
    ]


def test_details_are_shown_below(trainshed: Run, stub: StubService) -> None:
    details = [{"code": "InvalidPropertyValue", "message": "too many", "target": "properties.nodeCount"}]
    stub.on("GET", f"{EXPERIMENT}/jobs/j", refusal(400, "InvalidPropertyValue", "bad", details=details))
    result = trainshed("job", "show", "j")
    assert result.code == 1
    assert "  InvalidPropertyValue: properties.nodeCount: too many\n" in result.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["job", "terminate", "j"],
        ["job", "delete", "j"],
        ["cluster", "delete", "c"],
        ["experiment", "delete", "e"],
        ["workspace", "delete", "w"],
    ],
)
def test_nothing_is_lost_where_nobody_can_be_asked(trainshed: Run, stub: StubService, arguments: list[str]) -> None:
    result = trainshed(*arguments)
    assert result.code == 1
    assert "ConfirmationRequired" in result.err
    assert "-y" in result.err
    assert [asked.method for asked in stub.asked if asked.method != "GET"] == []


def test_last_without_jobs_says_so(trainshed: Run, stub: StubService) -> None:
    stub.on("GET", f"{EXPERIMENT}/jobs", answer({"value": []}))
    result = trainshed("job", "show", "last")
    assert result.code == 1
    assert "experiment default has no jobs" in result.err
