"""Nothing that a job started outlives it, however it tried to get away (issue 2, show 5)."""

from __future__ import annotations

import sys
import time
import uuid
from pathlib import Path

import pytest

from tests.support.leftovers import commands
from tests.support.live_service import LiveService, custom

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

#: Seconds within which a job that was terminated is fully gone (issue 2, show 5).
LIMIT = 10.0

#: Forks twice into sessions of their own, so that the last one is nobody's child and in nobody's process group; it
#: has another environment, ignores what can be ignored, and keeps no file of the job open. Its arguments are the mark.
STUBBORN = """
import os, signal, sys, time

def stay():
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    while True:
        time.sleep(60)

if len(sys.argv) > 2:
    stay()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.setsid()
        os.chdir("/")
        os.closerange(0, 64)
        os.execve(sys.executable, [sys.executable, "-S", __file__, sys.argv[1], "detached"], {})
    os._exit(0)
print("started", flush=True)
"""


class Escapee:
    """A script whose processes are known by a mark on their command line."""

    def __init__(self, folder: Path) -> None:
        self.mark = f"escapee-{uuid.uuid4().hex}"
        self.script = folder / "escape.py"
        self.script.write_text(STUBBORN)

    @property
    def command(self) -> str:
        """Starts the detached process and returns."""
        return f"{sys.executable} {self.script} {self.mark}"

    def processes(self) -> list[str]:
        """What lives of it, the shell that was given the command included."""
        return [command for command in commands().values() if self.mark in command]

    def is_detached(self) -> bool:
        return any(command.endswith("detached ") for command in self.processes())

    def gone_after(self, start: float) -> float:
        """Seconds from ``start`` until nothing of it lived; fails at LIMIT."""
        while left := self.processes():
            assert time.monotonic() - start < LIMIT, f"still there after {LIMIT:g} s: {left}"
            time.sleep(0.02)
        return time.monotonic() - start


@pytest.fixture
def escapee(tmp_path: Path) -> Escapee:
    return Escapee(tmp_path)


def submit(service: LiveService, name: str, command: str, escapee: Escapee, nodes: int = 1) -> None:
    """Submit the job and wait until it runs and its process has detached itself."""
    cluster = service.client.clusters.get("c")
    service.client.jobs.create(name, custom(command, str(cluster.id), nodes=nodes))
    service.wait_for(escapee.is_detached, "the detached process")
    service.wait_for(lambda: service.client.jobs.get(name).execution_state.value == "running", "the job")


def test_terminate_ends_what_detached_itself(shared_service: LiveService, escapee: Escapee) -> None:
    """The command itself ignores SIGTERM, too."""
    submit(shared_service, "stubborn-1", f"trap '' TERM; {escapee.command}; {escapee.command}; sleep 1000", escapee)
    start = time.monotonic()
    shared_service.client.jobs.terminate("stubborn-1", wait=False)
    escapee.gone_after(start)
    job = shared_service.client.jobs.wait("stubborn-1", interval=0.05, timeout=LIMIT - (time.monotonic() - start))
    assert (job.execution_state.value, job.exit_code) == ("failed", None)
    assert [problem.code for problem in job.errors] == ["JobTerminated"]
    shared_service.wait_for(
        lambda: shared_service.client.clusters.get("c").nodes_in("idle") == 2, "free nodes", seconds=LIMIT
    )


def test_delete_ends_what_detached_itself(shared_service: LiveService, escapee: Escapee) -> None:
    submit(shared_service, "stubborn-2", f"trap '' TERM; {escapee.command}; sleep 1000", escapee)
    start = time.monotonic()
    assert shared_service.client.jobs.delete("stubborn-2")
    escapee.gone_after(start)
    assert "stubborn-2" not in [job.name for job in shared_service.client.jobs.list()]


def test_time_limit_ends_what_detached_itself(shared_service: LiveService, escapee: Escapee) -> None:
    cluster = shared_service.client.clusters.get("c")
    command = f"trap '' TERM; {escapee.command}; sleep 1000"
    limit = {"constraints": {"maxWallClockTime": "PT2S"}}
    shared_service.client.jobs.create("stubborn-3", custom(command, str(cluster.id), **limit))
    shared_service.wait_for(escapee.is_detached, "the detached process")
    escapee.gone_after(time.monotonic() + 2)
    job = shared_service.client.jobs.wait("stubborn-3", interval=0.05, timeout=LIMIT)
    assert [problem.code for problem in job.errors] == ["JobMaxWallClockTimeExceeded"]


@pytest.mark.parametrize(("status", "state"), [(0, "succeeded"), (3, "failed")])
def test_a_job_that_ends_leaves_nothing_behind(
    shared_service: LiveService, escapee: Escapee, status: int, state: str
) -> None:
    """Its own exit status stands: what it left behind doesn't make it wait or fail."""
    cluster = shared_service.client.clusters.get("c")
    seen = escapee.script.parent / "seen"
    name = f"background-{status}"
    # It ends when the test has seen what it leaves behind.
    command = f"sleep 1000 & {escapee.command}; while [ ! -e {seen} ]; do sleep 0.02; done; exit {status}"
    shared_service.client.jobs.create(name, custom(command, str(cluster.id)))
    shared_service.wait_for(escapee.is_detached, "the detached process")
    seen.touch()
    start = time.monotonic()
    job = shared_service.client.jobs.wait(name, interval=0.05, timeout=LIMIT)
    escapee.gone_after(start)
    assert (job.execution_state.value, job.exit_code) == (state, status)
