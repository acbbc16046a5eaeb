"""retryPolicy on the real service: a job whose first tries fail succeeds in the end, and says what happened."""

from __future__ import annotations

import json

import pytest

from tests.support.live_service import LiveService, custom
from tests.support.program import Program
from trainshed.resources.lifecycle import JobState

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

QUICK = {"initialDelay": "PT0.1S", "multiplier": 2, "maxDelay": "PT1S"}


def test_preparation_and_job_are_tried_again_until_they_succeed(
    shared_service: LiveService, trainshed: Program
) -> None:
    client = shared_service.client
    properties = custom(
        "[ $TRAINSHED_ATTEMPT -ge 3 ] || exit 75",
        client.clusters.get("c").id,
        jobPreparation={"commandLine": "[ $TRAINSHED_ATTEMPT -ge 2 ] || exit 7"},
        retryPolicy={"maxRetries": 5, "exitCodes": [7, 75], "backoff": QUICK},
    )
    client.jobs.create("tried-again", properties)
    job = shared_service.wait_for(lambda: (found := client.jobs.get("tried-again")).final and found, "its end")
    assert job.execution_state is JobState.SUCCEEDED
    assert (job.attempt, job.properties["retries"]) == (3, 2)
    assert [(entry.get("state"), entry.get("exitCode")) for entry in client.jobs.attempts("tried-again")] == [
        ("failed", 7),
        ("failed", 75),
        ("succeeded", 0),
    ]
    told = [event["reason"] for event in trainshed_events(trainshed, "tried-again") if event["event"] == "requeued"]
    assert [reason["code"] for reason in told] == ["JobRetried", "JobRetried"]
    assert "exit code 75" in told[1]["message"]


def test_a_wall_clock_that_ran_out_is_not_tried_again(shared_service: LiveService) -> None:
    client = shared_service.client
    properties = custom(
        "sleep 60",
        client.clusters.get("c").id,
        constraints={"maxWallClockTime": "PT0.5S"},
        retryPolicy={"maxRetries": 5, "backoff": QUICK},
    )
    client.jobs.create("too-long", properties)
    job = shared_service.wait_for(lambda: (found := client.jobs.get("too-long")).final and found, "its end")
    assert (job.attempt, [error.code for error in job.errors]) == (1, ["JobMaxWallClockTimeExceeded"])


def test_run_stays_with_a_job_that_is_tried_again(trainshed: Program, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("file")
    file = folder / "job.json"
    file.write_text(
        json.dumps(
            {
                "$schema": "https://example.com/2026-11-01/job.json",
                "properties": {
                    "nodeCount": 1,
                    "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/logs",
                    "customToolkitSettings": {"commandLine": "echo try $TRAINSHED_ATTEMPT; exit 4"},
                    "retryPolicy": {"maxRetries": 9, "backoff": QUICK},
                },
            }
        )
    )
    trainshed.ok("job", "create", "gives-up", "-f", str(file), "-c", "c", "--retries", "1")
    assert trainshed("job", "wait", "gives-up").code == 4
    assert trainshed.ok("job", "logs", "gives-up").out.split() == ["try", "1", "try", "2"]
    shown = trainshed.ok("job", "explain", "gives-up")
    assert "RetriesExhausted" in shown.out + shown.err


def trainshed_events(trainshed: Program, job: str) -> list[dict[str, object]]:
    return trainshed.ok("job", "events", job, "-o", "json").json
