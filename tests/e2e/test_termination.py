"""Nothing of a job is left after its end, however it hides (invariant 3)."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.live_service import LiveService, custom

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

#: Seconds within which a terminated job is fully gone.
GONE_WITHIN = 10.0


def hiding(mark: str) -> str:
    """Forks twice, leaves its session, ignores every polite signal, clears its environment, and stays."""
    program = (
        "import os,signal,time\n"
        "for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1): signal.signal(n, signal.SIG_IGN)\n"
        "if os.fork() == 0:\n os.setsid()\n"
        " if os.fork() == 0:\n  time.sleep(1000)\n"
        "time.sleep(1000)\n"
    )
    return f"trap '' TERM INT HUP; echo begun; env -i python3 -c $'{program.encode('unicode_escape').decode()}' {mark}"


def alive(mark: str) -> list[int]:
    """Processes with the mark on their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if mark.encode() in (entry / "cmdline").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


@pytest.mark.parametrize("how", ["terminate", "delete"])
def test_a_job_that_hides_is_gone(shared_service: LiveService, how: str) -> None:
    mark, name = uuid4().hex, f"hides-{how}"
    client = shared_service.client
    client.jobs.create(name, custom(hiding(mark), str(client.clusters.get("c").id)))
    shared_service.wait_for(lambda: len(alive(mark)) >= 3, "the job's processes")
    asked = time.monotonic()
    getattr(client.jobs, how)(name)
    assert time.monotonic() - asked < GONE_WITHIN
    assert alive(mark) == []


def test_what_a_finished_job_leaves_in_the_background_is_ended(shared_service: LiveService) -> None:
    mark = uuid4().hex
    client = shared_service.client
    command = f"( {hiding(mark)} ) > /dev/null 2>&1 & while ! pgrep -f {mark} > /dev/null; do sleep 0.05; done; exit 0"
    client.jobs.create("leaves", custom(command, str(client.clusters.get("c").id)))
    job = client.jobs.wait("leaves", interval=0.1, timeout=30)
    assert job.execution_state.value == "succeeded"
    assert alive(mark) == []


def test_an_orderly_stop_with_running_jobs_queues_them_again(service: LiveService) -> None:
    cluster = service.make_cluster(1)
    command = "echo attempt $TRAINSHED_ATTEMPT; if [ $TRAINSHED_ATTEMPT = 1 ]; then sleep 1000; fi"
    service.client.jobs.create("long", custom(command, cluster))
    service.wait_for(lambda: service.client.jobs.get("long").execution_state.value == "running", "the start")
    service.stop()
    assert service.marked() == []
    service.start()
    assert service.client.jobs.wait("long", interval=0.1, timeout=30).execution_state.value == "succeeded"
    attempts = [record.json for record in service.client.jobs.attempts("long")]
    assert [attempt["reason"]["code"] for attempt in attempts if attempt.get("reason")] == ["EngineStopped"]
