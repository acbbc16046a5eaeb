"""Programs that serve file systems: how they begin and end."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainshed.volumes.daemons import Daemon, run_bounded

_TELL = """
import signal
for number in (signal.SIGTERM, signal.SIGHUP):
    print(signal.getsignal(number).name)
print(len(signal.pthread_sigmask(signal.SIG_BLOCK, ())))
"""


@pytest.fixture
def _ignoring() -> Iterator[None]:
    """As a volume holder does."""
    former = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTERM, signal.SIGHUP)}
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    for number, action in former.items():
        signal.signal(number, action)


@pytest.mark.usefixtures("_ignoring")
def test_a_program_does_not_inherit_what_its_caller_ignores() -> None:
    done = run_bounded([sys.executable, "-c", _TELL], os.environ, 30)
    assert done.stdout.split() == ["SIG_DFL", "SIG_DFL", "0"], done.stderr


@pytest.mark.usefixtures("_ignoring")
def test_a_daemon_ends_at_once_when_it_is_asked_to(tmp_path: Path) -> None:
    daemon = Daemon(["sleep", "1000"], os.environ, str(tmp_path), "log")
    began = time.monotonic()
    daemon.stop(20)
    assert not daemon.alive and time.monotonic() - began < 10
