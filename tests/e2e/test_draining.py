"""``trainshed serve --drain`` on a service that runs: running jobs end, queued ones wait, the service leaves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.leftovers import look_until_nothing
from tests.support.live_service import PATIENCE, LiveService, custom
from trainshed.resources.lifecycle import JobState

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def _serve(home: Path, option: str) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TRAINSHED_")}
    command = [sys.executable, "-m", "trainshed", "serve", "--home", str(home), option]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)


def test_what_runs_ends_what_waits_waits_and_then_the_service_leaves(tmp_path: Path) -> None:
    home, gate = tmp_path / "home", tmp_path / "gate"
    service = LiveService(home, stop_nodes=True)
    try:
        service.start()
        cluster = service.make_cluster(1)
        wait = f"bash -c 'until [ -e {gate} ]; do sleep 0.05; done'"
        service.client.jobs.create("runs", custom(wait, cluster))
        service.wait_for(lambda: service.client.jobs.get("runs").execution_state is JobState.RUNNING, "the job")
        drain = _serve(home, "--drain")
        service.client.jobs.create("waits", custom("true", cluster))

        def code() -> str | None:
            why = service.client.jobs.get("waits").why_waiting
            return why.code if why else None

        service.wait_for(lambda: code() == "ServiceDraining", "the reason")
        # Taken back and asked for again: the first command ends and says so.
        back = _serve(home, "--no-drain")
        assert "starts jobs again" in back.communicate(timeout=PATIENCE)[1]
        assert (back.returncode, drain.wait(PATIENCE)) == (0, 1)
        service.wait_for(lambda: code() == "WaitingForNodes", "the usual reason")
        drain = _serve(home, "--drain")
        service.wait_for(lambda: code() == "ServiceDraining", "the reason")
        gate.touch()
        said = drain.communicate(timeout=PATIENCE)[1]
        assert drain.returncode == 0, said
        assert "1 running job has ended" in said
        assert service.wait(PATIENCE) == 0
        assert not (home / "service.json").exists()
        # It is drained once: with nothing that runs, again; and the next start is an ordinary one.
        again = _serve(home, "--drain")
        again.communicate(timeout=2 * PATIENCE)
        assert again.returncode == 0
        service.start()
        assert service.client.jobs.get("runs").execution_state is JobState.SUCCEEDED
        service.wait_for(
            lambda: service.client.jobs.get("waits").execution_state is JobState.SUCCEEDED, "the job that waited"
        )
        assert [attempt.get("number") for attempt in service.client.jobs.attempts("runs")] == [1]
    finally:
        service.stop()
    left = look_until_nothing(home)
    assert not left, f"the service left {left}"
