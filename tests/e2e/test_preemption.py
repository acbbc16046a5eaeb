"""A job that has to make room: warned, it writes a checkpoint and leaves; later it goes on from there."""

from __future__ import annotations

import json
import shlex
import sys
from typing import Any

import pytest

from tests.support.live_service import LiveService, custom
from tests.support.program import Program
from trainshed.resources.lifecycle import JobState

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

#: Counts to ten, two steps in a second; waits after the third in the first attempt.
_TRAINING = """
import os, pathlib, signal, sys, time
checkpoint = pathlib.Path(os.environ["TRAINSHED_CHECKPOINT_DIR"], "step")
step = int(checkpoint.read_text()) if checkpoint.exists() else 0
print("begins after", step, "earlier outputs in", os.environ["AZ_BATCHAI_PREV_OUTPUT_MODEL"] or "none", flush=True)

def leave(*_):
    print("saves", step, os.path.exists(os.environ["TRAINSHED_PREEMPTION_NOTICE"]), flush=True)
    checkpoint.write_text(str(step))
    sys.exit(1)

signal.signal(signal.SIGUSR2, leave)
while step < 10:
    step += 1
    if step == 3 and not checkpoint.exists():
        print("in the middle", flush=True)
        time.sleep(600)
print("done at", step)
"""


def training(client: Any) -> dict[str, Any]:
    return custom(
        f"{shlex.quote(sys.executable)} -S -c {shlex.quote(_TRAINING)}",
        client.clusters.get("c").id,
        outputDirectories=[{"id": "MODEL", "pathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/models"}],
        preemption={"gracePeriod": "PT1M"},
    )


def test_a_preempted_job_goes_on_where_it_was(shared_service: LiveService, trainshed: Program) -> None:
    client = shared_service.client
    client.jobs.create("interrupted", training(client))
    shared_service.wait_for(lambda: "in the middle" in _log(shared_service), "the third step")
    told = trainshed.ok("job", "preempt", "interrupted", "-y")
    assert "makes room" in told.err
    job = shared_service.wait_for(lambda: (found := client.jobs.get("interrupted")).final and found, "its end")
    assert job.execution_state is JobState.SUCCEEDED, job.errors
    assert (job.attempt, job.preemptions) == (2, 1)
    first, second = (attempt.json for attempt in client.jobs.attempts("interrupted"))
    assert (first["state"], first["exitCode"], first["reason"]["code"]) == ("stopped", 1, "Preempted")
    assert second["state"] == "succeeded"
    lines = _log(shared_service).splitlines()
    assert lines[:3] == ["begins after 0 earlier outputs in none", "in the middle", "saves 3 True"]
    assert lines[3].startswith("begins after 3 earlier outputs in /")
    assert lines[4:] == ["done at 10"]
    listed = json.loads(
        trainshed.ok("job", "files", "list", "-j", "interrupted", "-d", "checkpoints", "-o", "json").out
    )
    assert [entry["name"] for entry in listed] == ["step"]
    # It has ended: there is nothing that it could give up.
    refused = trainshed("job", "preempt", "interrupted", "-y")
    assert refused.code != 0
    assert "JobNotRunning" in refused.err


def _log(service: LiveService) -> str:
    segment = service.client.jobs.get("interrupted").properties["jobOutputDirectoryPathSegment"]
    found = list((service.home / "clusters").glob(f"*/mounts/logs/{segment}/stdouterr/stdout.txt"))
    return found[0].read_text() if found else ""
