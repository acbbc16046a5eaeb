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
from dataclasses import dataclass, field
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


@dataclass(frozen=True)
class AddedEngine:
    """An engine beside the service's own, added as a user does, that the cluster ``bench`` is on."""

    kind: str
    name: str
    #: Its settings, as words of the command line.
    settings: tuple[str, ...]
    #: The cluster's options there.
    options: Mapping[str, str] = field(default_factory=dict)
    #: What the engine needs of the service's environment.
    environment: Mapping[str, str] = field(default_factory=dict)

    def add(self, home: Path) -> None:
        """To the service of this home, which is started later."""
        command = [sys.executable, "-m", "trainshed", "engine", "add", "--home", str(home), self.kind, self.name]
        subprocess.run([*command, *self.settings], env=environment(), check=True, capture_output=True)


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
    nodes: int = 2,
    *options: str,
    vm_size: str = "STANDARD_D1",
    files: Mapping[str, str] | None = None,
    engine: AddedEngine | None = None,
) -> Iterator[Bench]:
    """A service with one cluster ``bench`` of ``nodes`` idle nodes and an experiment ``bench``.

    ``files`` are put into its home before it starts. The cluster is on ``engine``, or on the service's own.
    """
    with tempfile.TemporaryDirectory(prefix="trainshed-bench-") as folder:
        home = Path(folder)
        for name, text in (files or {}).items():
            (home / name).write_text(text)
        if engine is not None:
            engine.add(home)
        process = subprocess.Popen(
            [sys.executable, "-m", "trainshed", "serve", "--home", str(home), "--stop-nodes", *options],
            env={**environment(), **(engine.environment if engine is not None else {})},
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
                        **({"engine": {"name": engine.name, "options": dict(engine.options)}} if engine else {}),
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
