"""Starts real runners in forked processes, as an engine does, and talks to them over their control line."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.support.machine import why_no_namespaces
from trainshed.resources.volume_sources import volume_sources
from trainshed.runner import linux, main
from trainshed.runner.spec import HostSpec, JobIdentity, NodeDirectories, Outcome, RunnerSpec
from trainshed.volumes import managed

#: Seconds after which a test gives up.
BOUND = 30.0
SEGMENT = "sub/group/workspaces/ws/experiments/exp/jobs/job/uid"


def make_spec(
    root: Path,
    properties: dict[str, Any],
    *,
    nodes: int = 1,
    index: int = 0,
    port: int = 0,
    **changes: Any,
) -> RunnerSpec:
    """The spec of one node; all nodes share ``root``. Addresses are 127.0.77.4 and up."""
    hosts = tuple(HostSpec(f"tvm-{n}", f"node-{n}", f"127.0.77.{4 + n}", cpus=2) for n in range(nodes))
    node = root / f"n{index}"
    values: dict[str, Any] = {
        "attempt_id": "attempt-1",
        "attempt_number": 1,
        "node_index": index,
        "hosts": hosts,
        "identity": JobIdentity("sub", "group", "ws", "exp", "job", "uid", SEGMENT),
        "directories": NodeDirectories(
            mount_root=str(root / "mounts"),
            job_temp_root=str(node / "jobs"),
            shared_job_temp=str(root / "n0" / "jobs" / "ws" / "exp" / "job" / "shared"),
            state=str(node / "state"),
        ),
        "properties": {"nodeCount": nodes, "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/logs", **properties},
        "wall_clock_seconds": None,
        "grace_seconds": 1.0,
        "port": port,
        "token": "secret-token" if nodes > 1 or port else "",
    }
    values["volumes"] = tuple(volume_sources(properties.get("mountVolumes"), "/mountVolumes"))
    return RunnerSpec(**{**values, **changes})


def custom(command: str, **more: Any) -> dict[str, Any]:
    """Properties of a custom toolkit's job."""
    return {"customToolkitSettings": {"commandLine": command}, **more}


def stdouterr(root: Path) -> Path:
    """Where the job's log files lie."""
    return root / "mounts" / "logs" / SEGMENT / "stdouterr"


class Runner:
    """A runner in a process of its own; use as a context manager."""

    def __init__(
        self,
        spec: RunnerSpec,
        secrets: dict[str, str] | None = None,
        uid: int | None = None,
        private: dict[str, str] | None = None,
        setup_secrets: dict[str, str] | None = None,
    ) -> None:
        self.spec = spec
        self.line, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self.line.close()
                if managed(spec.volumes) and os.geteuid() == 0 and not why_no_namespaces():
                    # As the process of a node, so that the machine has no mounts of ours.
                    linux.unshare(linux.CLONE_NEWNS)
                    linux.mount("none", "/", None, linux.MS_REC | linux.MS_PRIVATE)
                if uid is not None:
                    os.setgroups([])
                    os.setgid(uid)
                    os.setuid(uid)
                main.run(spec, secrets or {}, theirs.detach(), private, setup_secrets)
            finally:
                os._exit(0)
        theirs.close()
        self._buffer = b""
        self._reaped = False

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._reaped:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.wait_exit()
        self.line.close()

    def message(self, bound: float = BOUND) -> dict[str, Any]:
        """The next message of the runner."""
        until = time.monotonic() + bound
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([self.line], [], [], max(0.0, until - time.monotonic()))
            assert ready, "the runner said nothing in time"
            data = self.line.recv(65536)
            assert data, "the runner died"
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)

    def outcome(self, bound: float = BOUND) -> Outcome:
        """Wait for the end."""
        while True:
            message = self.message(bound)
            if "outcome" in message:
                self.wait_exit()
                return Outcome.from_dict(message["outcome"])

    def stop(self, grace: float = 1.0) -> None:
        """Ask for a stop."""
        reason = {"code": "JobTerminated", "text": "terminated by the test", "details": {}}
        self.line.sendall(json.dumps({"stop": reason, "grace": grace}).encode() + b"\n")

    def warn(self, seconds: float, signal_name: str = "SIGUSR2", grace: float = 1.0) -> None:
        """Ask for a stop after a warning."""
        reason = {"code": "Preempted", "text": "somebody else is more urgent", "details": {}}
        warning = {"signal": signal_name, "seconds": seconds}
        self.line.sendall(json.dumps({"stop": reason, "grace": grace, "warning": warning}).encode() + b"\n")

    def wait_exit(self) -> None:
        """Wait until the runner's process has ended."""
        if not self._reaped:
            os.waitpid(self.pid, 0)
            self._reaped = True


def run(spec: RunnerSpec, secrets: dict[str, str] | None = None, private: dict[str, str] | None = None) -> Outcome:
    """Carry out an attempt on one node to its end."""
    with Runner(spec, secrets, private=private) as runner:
        return runner.outcome()


def wait_for(path: Path, bound: float = BOUND) -> str:
    """Contents of a file, once it has any."""
    until = time.monotonic() + bound
    while time.monotonic() < until:
        with suppress(OSError):
            if text := path.read_text():
                return text
        time.sleep(0.01)
    raise AssertionError(f"{path} did not appear")


def keeper_of(runner: int, but: int = 0) -> int:
    """The child of this process that is the first one of a PID namespace, once there is one that is not ``but``."""
    until = time.monotonic() + BOUND
    while time.monotonic() < until:
        for child in Path(f"/proc/{runner}/task/{runner}/children").read_text().split():
            with suppress(OSError):
                status = Path(f"/proc/{child}/status").read_text()
                (numbers,) = (line for line in status.splitlines() if line.startswith("NSpid:"))
                if int(child) != but and numbers.split()[2:] == ["1"]:
                    return int(child)
        time.sleep(0.01)
    raise AssertionError("no keeper")


def marked(marker: str) -> list[int]:
    """Processes of this machine whose environment holds the marker."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if marker.encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
    return found


def wait_gone(marker: str, bound: float = BOUND) -> None:
    """Wait until no process holds the marker."""
    until = time.monotonic() + bound
    while found := marked(marker):
        assert time.monotonic() < until, f"still alive: {found}"
        time.sleep(0.02)
