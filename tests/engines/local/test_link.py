"""Two daemons of a home may start at once, after kills: one stays, and none is left when it is ended."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.engines.conftest import run_in_lab
from tests.engines.lab import Lab
from trainshed.engines.local.engine import LocalEngine
from trainshed.engines.local.layout import Layout
from trainshed.engines.local.leftovers import marked
from trainshed.engines.local.link import Link

pytestmark = pytest.mark.slow


def test_a_daemon_that_is_killed_at_its_start_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a kill of service and daemon two may start: one has the lock, and ends all of the home but itself."""
    spawn = Link._spawn
    started: list[subprocess.Popen[bytes]] = []

    def spawn_and_kill_the_first_two(link: Link) -> subprocess.Popen[bytes]:
        started.append(spawn(link))
        if len(started) <= 2:
            started[-1].kill()
        return started[-1]

    async def body(lab: Lab) -> None:
        assert (await lab.engine.view()).nodes == ()

    monkeypatch.setattr(Link, "_spawn", spawn_and_kill_the_first_two)
    run_in_lab(tmp_path / "home", body)
    assert [process.poll() for process in started[:2]] == [-9, -9]
    assert len(started) == 3


def test_a_daemon_that_is_late_does_not_outlive_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One was started while another was about to listen, and has not looked yet whether it is alone."""
    spawn, greet = Link._spawn, Link._greet
    late: list[subprocess.Popen[bytes]] = []

    async def refused_once(link: Link) -> asyncio.StreamReader:
        if not late:
            raise ConnectionRefusedError("not yet")
        return await greet(link)

    def spawn_and_stop(link: Link) -> subprocess.Popen[bytes]:
        late.append(spawn(link))
        os.kill(late[-1].pid, signal.SIGSTOP)
        return late[-1]

    async def body(lab: Lab) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Link, "_greet", refused_once)
            patch.setattr(Link, "_spawn", spawn_and_stop)
            second = LocalEngine(tmp_path / "home")
            await second.start(lambda status: None)
        assert [process.poll() for process in late] == [None]
        # The first engine would miss its daemon and start another one.
        await lab.engine.close()
        await second.shut_down()
        await second.close()
        assert marked(Layout(tmp_path / "home").mark) == []

    run_in_lab(tmp_path / "home", body)
