"""The tests' own servers leave with them, however those end."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

#: Starts a server as fixtures do, says its process id, and is killed.
_TESTS = """
import sys, time
from pathlib import Path
from tests.volumes.servers import running
with running(["sleep", "1000"], Path(sys.argv[1]), lambda: True) as server:
    print(server.pid, flush=True)
    time.sleep(1000)
"""


def test_servers_end_with_tests_that_are_killed(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", _TESTS, str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as tests:
        assert tests.stdout is not None
        server = psutil.Process(int(tests.stdout.readline()))
        tests.send_signal(signal.SIGKILL)
    until = time.monotonic() + 20
    while server.is_running() and server.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until, "the server is still there"
        time.sleep(0.05)
