"""A real service in a home of its own, for measuring: started, used through the public client, stopped."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from trainshed.client import Client, Connection, Scope

#: Seconds to wait for anything that must happen.
PATIENCE = 60.0


@dataclass
class Bench:
    """One running service."""

    home: Path
    process: subprocess.Popen[bytes]
    client: Client

    def processes(self) -> list[psutil.Process]:
        """The service, and the node daemon with its nodes."""
        daemon = [
            psutil.Process(int(pid.name))
            for pid in Path("/proc").iterdir()
            if pid.name.isdigit()
            and _command_line(pid)
            and str(self.home) in _command_line(pid)
            and int(pid.name) != self.process.pid
        ]
        return [psutil.Process(self.process.pid), *daemon]


def _command_line(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def environment() -> dict[str, str]:
    """As a user's shell has it: byte-code caching on, this interpreter's programs first on PATH."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith("TRAINSHED_") and key != "PYTHONDONTWRITEBYTECODE"
    }
    return {**kept, "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"}


@contextlib.contextmanager
def running_service(
    nodes: int = 2, *options: str, vm_size: str = "STANDARD_D1", files: Mapping[str, str] | None = None
) -> Iterator[Bench]:
    """A service with one cluster ``bench`` of ``nodes`` idle nodes and an experiment ``bench``.

    ``files`` are put into its home before it starts.
    """
    with tempfile.TemporaryDirectory(prefix="trainshed-bench-") as folder:
        home = Path(folder)
        for name, text in (files or {}).items():
            (home / name).write_text(text)
        process = subprocess.Popen(
            [sys.executable, "-m", "trainshed", "serve", "--home", str(home), "--stop-nodes", *options],
            env=environment(),
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_for(lambda: (home / "service.json").exists(), "the service")
            found = json.loads((home / "service.json").read_text())
            scope = Scope(workspace="bench", experiment="bench")
            with Client(scope, connection=Connection(found["url"], found["token"])) as client:
                client.workspaces.create("bench", location="local")
                client.experiments.create("bench")
                client.clusters.create(
                    "bench",
                    {
                        "vmSize": vm_size,
                        "scaleSettings": {"manual": {"targetNodeCount": nodes}},
                        "userAccountSettings": {"adminUserName": "bench", "adminUserPassword": "bench-only-4711"},
                    },
                )
                wait_for(lambda: idle_nodes(client) == nodes, "the nodes")
                yield Bench(home, process, client)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE)


def idle_nodes(client: Client) -> int:
    """Idle nodes of the cluster ``bench``."""
    return int(client.clusters.get("bench").properties["nodeStateCounts"]["idleNodeCount"])


def wait_for(check: Callable[[], bool], what: str) -> None:
    """Until ``check()`` is true; fails after PATIENCE."""
    deadline = time.monotonic() + PATIENCE
    while not check():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come within {PATIENCE:g} s")
        time.sleep(0.01)
