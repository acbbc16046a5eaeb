"""kill -9 of the service, of the node daemon and of both: nothing is lost, nothing runs twice at once."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.live_service import LiveService, custom
from trainshed.client import ClientError
from trainshed.client.models import Record

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

#: Lines that the long job prints, ten a second.
LINES = 60
COUNT = f"for i in $(seq 1 {LINES}); do echo line $i; sleep 0.1; done"
#: Times that both are killed around a submission.
ROUNDS = 50


def records(listed: Iterable[Record]) -> list[Mapping[str, Any]]:
    return [record.json for record in listed]


def log_of(service: LiveService, job: str) -> list[str]:
    return b"".join(service.client.jobs.stream_log(job, "stdout.txt", follow=False)).decode().splitlines()


def test_kill_the_service_while_a_gang_runs(service: LiveService) -> None:
    cluster = service.make_cluster()
    service.client.jobs.create("long", custom(COUNT, cluster, nodes=2))
    service.wait_for(lambda: len(_log_or_nothing(service, "long")) > 5, "the first lines")
    service.kill()
    service.start()
    job = service.client.jobs.wait("long", interval=0.1, timeout=60)
    assert job.execution_state.value == "succeeded"
    assert [attempt["number"] for attempt in records(service.client.jobs.attempts("long"))] == [1]
    assert log_of(service, "long") == [f"line {i}" for i in range(1, LINES + 1)]


def test_kill_the_node_daemon_while_a_gang_runs(service: LiveService) -> None:
    cluster = service.make_cluster()
    # The first attempt would last for ever; the second one ends at once.
    command = "echo attempt $TRAINSHED_ATTEMPT; if [ $TRAINSHED_ATTEMPT = 1 ]; then sleep 1000; fi"
    service.client.jobs.create("long", custom(command, cluster, nodes=2))
    service.wait_for(lambda: _log_or_nothing(service, "long"), "the first line")
    before = service.marked()
    os.kill(service.daemon_pid(), signal.SIGKILL)
    job = service.client.jobs.wait("long", interval=0.1, timeout=60)
    assert job.execution_state.value == "succeeded"
    attempts = records(service.client.jobs.attempts("long"))
    assert [attempt["number"] for attempt in attempts] == [1, 2]
    assert attempts[0]["state"] == "lost"
    assert attempts[0]["reason"]["code"] == "NodeDaemonLost"
    requeued = [event for event in records(service.client.jobs.events("long")) if event["event"] == "requeued"]
    assert len(requeued) == 1 and requeued[0]["reason"]["code"] == "NodeDaemonLost"
    assert set(before).isdisjoint(service.marked()), "a process of the old daemon is alive"
    assert log_of(service, "long") == ["attempt 1", "attempt 2"]


def test_an_orderly_stop_with_running_jobs_queues_them_again(service: LiveService) -> None:
    cluster = service.make_cluster(1)
    command = "echo attempt $TRAINSHED_ATTEMPT; if [ $TRAINSHED_ATTEMPT = 1 ]; then sleep 1000; fi"
    service.client.jobs.create("long", custom(command, cluster))
    service.wait_for(lambda: _log_or_nothing(service, "long"), "the first line")
    service.stop()
    assert service.marked() == []
    service.start()
    assert service.client.jobs.wait("long", interval=0.1, timeout=30).execution_state.value == "succeeded"
    reasons = [attempt.get("reason") for attempt in records(service.client.jobs.attempts("long"))]
    assert [reason["code"] for reason in reasons if reason] == ["EngineStopped"]


@pytest.mark.timeout(400)
def test_kill_both_around_submission(service: LiveService, tmp_path: Path) -> None:
    """At random moments around a submission; the seed is printed and makes the delays the same again."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    cluster = service.make_cluster()
    shared = tmp_path / "shared"
    shared.mkdir()
    # As long as a submission takes on this machine now: some of the kills must come after the answer.
    accepted: set[str] = set()
    began = time.monotonic()
    _submit(service, "first", custom(f"echo done >> {shared}/first.done", cluster), accepted)
    usual = time.monotonic() - began
    assert accepted == {"first"}
    for number in range(ROUNDS):
        name = f"job-{number}"
        # The lock is the kernel's: it is free as soon as the process that holds it is gone, and not before.
        command = (
            f"exec 9>>{shared}/{name}.lock; flock -n 9 || touch {shared}/{name}.overlap; "
            f"sleep 0.05; echo done >> {shared}/{name}.done"
        )
        submission = threading.Thread(
            target=_submit, args=(service, name, custom(command, cluster, nodes=1 + number % 2), accepted)
        )
        submission.start()
        # Half of the kills within the few milliseconds in which a submission is stored and placed.
        time.sleep(chance.uniform(0, chance.choice([0.02, max(0.15, 2 * usual)])))
        with suppress(ProcessLookupError, ValueError):
            os.kill(service.daemon_pid(), signal.SIGKILL)
        service.kill()
        submission.join(30)
        assert not submission.is_alive()
        service.start()
    assert len(accepted) > 1, "no submission was ever accepted: the test kills too early"
    for job in service.client.jobs.list():
        ended = service.client.jobs.wait(job.name, interval=0.1, timeout=60)
        assert ended.execution_state.value == "succeeded", ended
    kept = {job.name for job in service.client.jobs.list()}
    assert accepted <= kept, f"lost: {accepted - kept}"
    assert not list(shared.glob("*.overlap")), "two attempts of one job ran at once"
    assert {path.stem for path in shared.glob("*.done")} == kept


def _submit(service: LiveService, name: str, properties: dict[str, object], accepted: set[str]) -> None:
    """One request, no second try: what is answered is accepted."""
    told = service.told()
    path = (
        "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/trainshed/providers/Microsoft.BatchAI"
        f"/workspaces/default/experiments/default/jobs/{name}?api-version=2018-05-01"
    )
    with suppress(httpx.HTTPError):
        answer = httpx.put(
            told["url"] + path,
            json={"properties": properties},
            timeout=10,
            headers={"Authorization": f"Bearer {told['token']}"},
        )
        if answer.status_code == 202:
            accepted.add(name)


def _log_or_nothing(service: LiveService, job: str) -> list[str]:
    with suppress(ClientError):
        return log_of(service, job)
    return []
