"""Several real service processes on one home and one PostgreSQL: killed, frozen, continued, and asked who leads."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx

from tests.support.leftovers import look_until_nothing
from trainshed.client import Client, Connection, Scope
from trainshed.store import leadership
from trainshed.store.database import Database
from trainshed.store.leadership import LeaseRecord

T = TypeVar("T")

#: Seconds within which anything that must happen has to.
PATIENCE = 30.0
_READY = re.compile(r"Trainshed is ready at (\S+)")


class Nursery:
    """Where processes of the service come from, quickly (``warm_service``)."""

    def __init__(self) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TRAINSHED_")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.warm_service"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def fork(self, arguments: list[str], variables: dict[str, str], log: Path) -> int:
        """Start one; its pid."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        json.dump({"arguments": arguments, "variables": variables, "log": str(log)}, self._process.stdin)
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """End it, and whatever it started and is still there."""
        self._process.communicate()


class Replica:
    """One process of the service."""

    def __init__(self, site: Site, number: int, *arguments: str) -> None:
        self._site = site
        self.log = site.home.parent / f"replica-{number}.log"
        self.log.touch()
        variables = {"TRAINSHED_DATABASE_URL": site.database_url, "TRAINSHED_HOME": str(site.home)}
        self.pid = site.nursery.fork(["--lease", str(site.lease), *arguments], variables, self.log)
        self._process = os.pidfd_open(self.pid)
        self.controls = "api" not in arguments
        self._client: Client | None = None

    @property
    def alive(self) -> bool:
        """Whether it is there."""
        return not select.select([self._process], [], [], 0)[0]

    def signal(self, number: int) -> None:
        """Send a signal, if it is there."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._process, number)

    def wait(self) -> None:
        """Until it is gone."""
        assert select.select([self._process], [], [], PATIENCE)[0], f"{self.pid} does not end"

    @property
    def url(self) -> str:
        """Where it listens; waits until it does."""

        def told() -> str | None:
            assert self.alive, self.log.read_text()[-2000:]
            found = _READY.search(self.log.read_text())
            return found.group(1) if found else None

        return str(wait_for(told, "a process that listens"))

    @property
    def client(self) -> Client:
        if self._client is None:
            url, token = self.url, (self._site.home / "admin.token")
            self._client = Client(Scope(), connection=Connection(url, token.read_text().strip()))
        return self._client

    def get(self, path: str) -> httpx.Response:
        """What a probe gets."""
        return httpx.get(f"{self.url}{path}", timeout=10)

    def ready(self) -> dict[str, Any]:
        """What ``/readyz`` says."""
        return dict(self.get("/readyz").json())

    def kill(self) -> None:
        """kill -9."""
        self.signal(signal.SIGKILL)
        self.wait()

    def freeze(self) -> None:
        """SIGSTOP."""
        self.signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT)

    def stop(self) -> int:
        """A clean stop; the exit status."""
        self.signal(signal.SIGTERM)
        self.wait()
        return int(self.log.read_text().split()[-1])


class Site:
    """A home, a database, and the processes on them."""

    def __init__(self, nursery: Nursery, home: Path, database_url: str, lease: float) -> None:
        self.nursery = nursery
        self.home = home
        self.database_url = database_url
        self.lease = lease
        self.db = Database.open(database_url)
        self.replicas: list[Replica] = []

    def start(self, *arguments: str) -> Replica:
        """One more process; it may not listen yet."""
        replica = Replica(self, len(self.replicas), *arguments)
        self.replicas.append(replica)
        return replica

    @property
    def controllers(self) -> list[Replica]:
        """Those that may lead."""
        return [replica for replica in self.replicas if replica.controls]

    def lease_now(self) -> LeaseRecord | None:
        """Who has the lease."""
        return self.db.read_sync(leadership.current)

    def leader(self, *, but: Replica | None = None) -> Replica:
        """The process that leads, once one does; another than ``but``."""

        def found() -> Replica | None:
            lease = self.lease_now()
            if lease is None or not lease.held:
                return None
            pid = int(lease.name.rpartition(" ")[2])
            alive = (one for one in self.replicas if one.alive and one is not but)
            return next((one for one in alive if one.pid == pid), None)

        return wait_for(found, "a leader")


def wait_for(check: Callable[[], T | None], what: str, seconds: float = PATIENCE) -> T:
    """The first true answer; fails after the bound."""
    deadline = time.monotonic() + seconds
    while True:
        answer = check()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"{what} did not come within {seconds:g} s"
        time.sleep(0.02)


@contextlib.contextmanager
def site(nursery: Nursery, home: Path, database_url: str, lease: float = 2.0) -> Iterator[Site]:
    """Without any process at first; ended with its nodes, and nothing of it is left."""
    made = Site(nursery, home, database_url, lease)
    try:
        yield made
    finally:
        for number in (signal.SIGCONT, signal.SIGTERM):
            for replica in made.replicas:
                replica.signal(number)
        for replica in made.replicas:
            replica.wait()
        if made.replicas:
            last = made.start("--stop-nodes", "--role", "controller")
            _ = last.url
            last.stop()
        made.db.close_sync()
    left = look_until_nothing(home)
    assert not left, f"the service left {left}"
