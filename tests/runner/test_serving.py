"""One runner process for several attempts: each begins clean, whatever the one before did."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.runner.harness import BOUND, custom, make_spec, marked, stdouterr, wait_for
from trainshed.runner import main
from trainshed.runner.serving import serve
from trainshed.runner.spec import RunnerSpec

pytestmark = pytest.mark.slow


class Server:
    """A serving runner in a process of its own."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._line, theirs = socket.socketpair()
        self._buffer = b""
        self._count = 0
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self._line.close()
                serve(theirs.detach())
            except BaseException:
                traceback.print_exc()
                raise
            finally:
                os._exit(0)
        theirs.close()

    def begin(self, properties: dict[str, Any]) -> str:
        """Send the next attempt; its id."""
        self._count += 1
        spec = self.spec(properties, f"attempt-{self._count}")
        state = str(self._root / f"state-{self._count}")
        spec = replace(spec, directories=replace(spec.directories, state=state))
        self.send({"run": json.loads(spec.to_json()), "secrets": {}, "private": {}, "token": ""})
        return spec.attempt_id

    def spec(self, properties: dict[str, Any], attempt_id: str) -> RunnerSpec:
        """What it is sent."""
        return make_spec(self._root, properties, attempt_id=attempt_id)

    def send(self, message: dict[str, Any]) -> None:
        self._line.sendall(json.dumps(message).encode() + b"\n")

    def end(self) -> dict[str, Any]:
        """What it says of the attempt's end."""
        until = time.monotonic() + BOUND
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([self._line], [], [], max(0.0, until - time.monotonic()))
            assert ready, "the runner said nothing in time"
            data = self._line.recv(65536)
            assert data, "the runner died"
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return dict(json.loads(line))

    def run(self, properties: dict[str, Any]) -> dict[str, Any]:
        """One attempt to its end."""
        attempt_id = self.begin(properties)
        ended = self.end()
        assert ended["attempt"] == attempt_id
        return ended

    def close(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self._line.close()


@pytest.fixture
def server(tmp_path: Path, isolation_kind: str) -> Iterator[Server]:
    main.warm_up("node-0")
    serving = Server(tmp_path)
    yield serving
    serving.close()


def text(root: Path) -> str:
    return (stdouterr(root) / "stdout.txt").read_text()


def test_attempts_one_after_another(server: Server, tmp_path: Path) -> None:
    results = [server.run(custom(f"echo {n}; exit {n}")) for n in range(4)]
    assert [ended["outcome"]["exit_code"] for ended in results] == [0, 1, 2, 3]
    assert all(ended["again"] for ended in results)
    assert text(tmp_path) == "0\n1\n2\n3\n"


def test_nothing_of_an_attempt_lives_when_its_end_is_told(server: Server, tmp_path: Path) -> None:
    detach = "(setsid bash -c 'trap \"\" TERM HUP; MARK=left-behind exec sleep 1000' >/dev/null 2>&1 &) ; sleep 0.1"
    assert server.run(custom(detach))["outcome"]["exit_code"] == 0
    assert marked("MARK=left-behind") == []
    assert server.run(custom("echo next"))["outcome"]["exit_code"] == 0


def test_an_attempt_sees_no_process_of_another(server: Server, tmp_path: Path, namespaces: None) -> None:
    server.run(custom("sleep 1000 & true"))
    server.run(custom("cat /proc/[0-9]*/comm | sort | tr '\\n' ' '"))
    assert "sleep" not in text(tmp_path)


def test_a_mount_that_a_job_left_is_not_there_for_the_next(server: Server, tmp_path: Path, namespaces: None) -> None:
    target = tmp_path / "target"
    target.mkdir()
    first = server.run(custom(f"mount -t tmpfs none {target} && touch {target}/file && ls {target}"))
    if first["outcome"]["exit_code"] != 0:
        pytest.skip("mounting is not permitted here")
    assert first["again"]
    server.run(custom(f"ls {target}; echo end"))
    assert text(tmp_path) == "file\nend\n"


def test_preparation_between_simple_attempts(server: Server, tmp_path: Path) -> None:
    prepared = {"jobPreparation": {"commandLine": "echo export PREPARED=yes >> ~/.bashrc"}}
    assert server.run(custom("echo [$PREPARED]"))["again"]
    assert server.run(custom("echo [$PREPARED]", **prepared))["outcome"]["exit_code"] == 0
    assert "[yes]" in text(tmp_path)


def test_a_stop_for_another_attempt_is_not_this_ones(server: Server, tmp_path: Path) -> None:
    first = server.begin(custom("true"))
    server.end()
    server.begin(custom("echo begun; sleep 0.3; echo done"))
    wait_for(stdouterr(tmp_path) / "stdout.txt")
    reason = {"code": "JobTerminated", "text": "too late", "details": {}}
    server.send({"stop": reason, "grace": 1, "attempt": first})
    assert server.end()["outcome"]["result"] == "succeeded"


def test_a_stop_leaves_it_able_to_serve(server: Server, tmp_path: Path) -> None:
    attempt = server.begin(custom("trap '' TERM; echo begun; while true; do sleep 0.1; done"))
    wait_for(stdouterr(tmp_path) / "stdout.txt")
    reason = {"code": "JobTerminated", "text": "enough", "details": {}}
    server.send({"stop": reason, "grace": 0.2, "attempt": attempt})
    ended = server.end()
    assert ended["outcome"]["result"] == "stopped" and ended["again"]
    assert server.run(custom("exit 5"))["outcome"]["exit_code"] == 5


def test_a_stop_that_comes_with_its_attempt_is_heard(server: Server, tmp_path: Path) -> None:
    reason = {"code": "JobTerminated", "text": "never mind", "details": {}}
    spec = json.loads(server.spec(custom("sleep 1000"), "unwanted").to_json())
    # Both are there when the runner looks.
    os.kill(server.pid, signal.SIGSTOP)
    server.send({"run": spec, "secrets": {}, "private": {}, "token": ""})
    server.send({"stop": reason, "grace": 0.2, "attempt": "unwanted"})
    os.kill(server.pid, signal.SIGCONT)
    assert server.end()["outcome"]["result"] == "stopped"
    assert server.run(custom("true"))["outcome"]["result"] == "succeeded"


def test_its_death_takes_the_attempt_with_it(server: Server, tmp_path: Path) -> None:
    server.run(custom("true"))
    server.begin(custom("export MARK=goes-too; bash -c 'echo begun; exec sleep 1000'"))
    wait_for(stdouterr(tmp_path) / "stdout.txt")
    os.kill(server.pid, signal.SIGKILL)
    until = time.monotonic() + BOUND
    while marked("MARK=goes-too") and time.monotonic() < until:
        time.sleep(0.01)
    assert marked("MARK=goes-too") == []
