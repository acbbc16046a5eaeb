"""A real ``trainshed serve`` for tests: started, killed, started again, stopped, with its client."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from tests.support.databases import copy_migrated
from tests.support.warm_parent import WarmChild, warm_parent
from trainshed.client import Client, Connection, Scope
from trainshed.engines.local.layout import Layout
from trainshed.engines.local.leftovers import MARK_VARIABLE

T = TypeVar("T")

#: Seconds within which anything that must happen has to.
PATIENCE = 30.0


class LiveService:
    """One home, and the service on it.

    A plain one is forked from a process that has loaded the program, and its new home begins with a migrated database.
    One with arguments or variables of its own is started as users start it, on nothing, unless it is to be ``warm``.
    """

    def __init__(
        self,
        home: Path,
        *arguments: str,
        stop_nodes: bool = True,
        more: Mapping[str, str] | None = None,
        warm: bool | None = None,
    ) -> None:
        """``arguments`` are more of ``trainshed serve``, ``more`` are variables of its environment."""
        self.home = home
        self._arguments = arguments
        self._more = dict(more or {})
        self._stop_nodes = stop_nodes
        self._warm = warm if warm is not None else not (arguments or self._more)
        self._process: subprocess.Popen[bytes] | WarmChild | None = None
        self._client: Client | None = None

    def start(self) -> LiveService:
        """Start it and wait until it answers."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TRAINSHED_URL")}
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment.get('PATH', '')}"
        environment |= self._more
        command = ["serve", "--home", str(self.home), *self._arguments, *(["--stop-nodes"] if self._stop_nodes else [])]
        with (self.home.parent / f"{self.home.name}.log").open("ab") as log:
            if not self._warm:
                full = [sys.executable, "-m", "trainshed", *command]
                self._process = subprocess.Popen(full, stderr=log, env=environment)
            else:
                self.home.mkdir(mode=0o700, exist_ok=True)
                if not (self.home / "trainshed.db").exists():
                    copy_migrated(self.home / "trainshed.db")
                self._process = warm_parent().start(command, environment, log)
        self.wait_for(self._is_up, "the service's start")
        return self

    def _is_up(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.home.parent / f"{self.home.name}.log").read_text()[-2000:]
        try:
            return bool(self.told()["pid"] == self._process.pid)
        except (FileNotFoundError, ValueError):
            return False

    def told(self) -> dict[str, Any]:
        """``service.json``."""
        return dict(json.loads((self.home / "service.json").read_text()))

    @property
    def client(self) -> Client:
        """A client of the service that runs now, in workspace and experiment ``default``."""
        told = self.told()
        return Client(Scope(), connection=Connection(told["url"], told["token"]))

    @property
    def url(self) -> str:
        """Where it listens."""
        return str(self.told()["url"])

    @property
    def pid(self) -> int:
        """The service's process."""
        assert self._process is not None
        return self._process.pid

    def daemon_pid(self) -> int:
        """The node daemon: the oldest process of this home that is not the service's."""
        return min(self.marked(), key=_start_time)

    def marked(self) -> list[int]:
        """Every living process of the home's nodes: daemon, nodes, runners, jobs."""
        wanted = f"{MARK_VARIABLE}={Layout(self.home).mark}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if wanted in (entry / "environ").read_bytes().split(b"\0"):
                        found.append(int(entry.name))
                except OSError:
                    continue
        return found

    def kill(self) -> None:
        """kill -9 the service."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(PATIENCE)

    def stop(self) -> None:
        """A clean stop; with ``stop_nodes`` nothing is left afterwards."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(PATIENCE)

    def wait(self, seconds: float = PATIENCE) -> int:
        """The exit status of a service that ends by itself."""
        assert self._process is not None
        return self._process.wait(seconds)

    def make_cluster(self, nodes: int = 2, seconds: float = PATIENCE, **more: Any) -> str:
        """Workspace, experiment and a cluster ``c`` of nodes that are idle within so many seconds; the cluster's id.

        ``more``: further properties of the cluster.
        """
        client = self.client
        client.workspaces.create("default", location="local")
        client.experiments.create("default")
        client.clusters.create(
            "c",
            {
                "vmSize": "STANDARD_D1",
                "scaleSettings": {"manual": {"targetNodeCount": nodes}},
                "userAccountSettings": {"adminUserName": "tester", "adminUserPassword": "only-for-tests-1"},
                **more,
            },
        )
        self.wait_for(lambda: client.clusters.get("c").nodes_in("idle") == nodes, "idle nodes", seconds)
        return str(client.clusters.get("c").id)

    def wait_for(self, check: Callable[[], T], what: str, seconds: float = PATIENCE) -> T:
        """The first true answer; fails after the bound."""
        deadline = time.monotonic() + seconds
        while True:
            answer = check()
            if answer:
                return answer
            assert time.monotonic() < deadline, f"{what} did not come within {seconds:g} s"
            time.sleep(0.02)


def custom(command: str, cluster: str, nodes: int = 1, **more: Any) -> dict[str, Any]:
    """A job's properties: one command on the master."""
    return {
        "nodeCount": nodes,
        "cluster": {"id": cluster},
        "customToolkitSettings": {"commandLine": command},
        "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/logs",
        **more,
    }


def _start_time(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
    except OSError:
        return 1 << 62
