"""The service in this process as its clients reach it: HTTP, API, store, and the real controller.

Its engine is the simulated one and its clock stands still, so that every state is exact. The loop has a thread of its
own: the command line and the client are called from the test's.
"""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import httpx
from sqlalchemy import Connection

from tests.api.service import EXPERIMENT, NEW, WS, Service, cluster_body, job_body
from tests.specification.world import World
from trainshed.http_server import HttpServer
from trainshed.listening import listen, url_of
from trainshed.resources.lifecycle import JobState, NodeState
from trainshed.store import clusters, jobs, nodes
from trainshed.store.records import JobRecord, NodeRecord

T = TypeVar("T")

#: Seconds in which everything comes to be that a test waits for.
PATIENCE = 20.0
MINUTE, HOUR = 60_000, 3_600_000


class LoopThread:
    """An event loop that goes on between the calls; in place of ``asyncio.Runner``."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="service")
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of the work, from another thread."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(PATIENCE)

    def close(self) -> None:
        """End the thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class WholeService:
    """Workspace ``ws`` with experiment ``exp``, and short words for what tests do there."""

    def __init__(self, service: Service, world: World, url: str) -> None:
        self.service = service
        self.engine = world.engine
        self.controller = world.controller
        self.clock = service.clock
        self.url = url

    def put(self, path: str, body: dict[str, Any] | None = None, *, token: str = "right") -> dict[str, Any]:
        """PUT of what the newer version knows; fails unless it is accepted."""
        answer = self.service.send("PUT", path, body, version=NEW, token=token)
        assert answer.status_code in (200, 201, 202), answer.text
        return answer.json() if answer.content else {}

    def cluster(self, name: str, nodes: int = 0, *, settle: bool = True, **properties: Any) -> None:
        """A cluster, with all its nodes ready."""
        scale = {"scaleSettings": {"manual": {"targetNodeCount": nodes}}}
        self.put(f"{WS}/clusters/{name}", cluster_body(**{**scale, **properties}))
        if settle:
            self.until(lambda tx: len(self._ready(tx, name)) == nodes)

    def job(self, name: str, cluster: str, nodes: int = 1, *, token: str = "right", **properties: Any) -> None:
        """A job in experiment ``exp``."""
        body = job_body(cluster={"id": f"{WS}/clusters/{cluster}"}, nodeCount=nodes, **properties)
        self.put(f"{EXPERIMENT}/jobs/{name}", body, token=token)

    def running(self, *names: str) -> None:
        """Wait until these jobs run, for the engine too."""
        for name in names:
            self.until(lambda tx, name=name: self._job(tx, name).execution is JobState.RUNNING)
            self.until(lambda _, name=name: self.attempt_of(name) is not None)

    def attempt_of(self, name: str) -> str | None:
        """The live attempt of a job, as the engine has it."""
        live = set(self.engine.live())
        return next((id for id, spec in list(self.engine.specs.items()) if spec.job == name and id in live), None)

    def command(self, call: Callable[[], T]) -> T:
        """Have the engine do something, in its own thread."""

        async def doing() -> T:
            return call()

        return self.service.run(doing())

    def nodes(self, cluster: str) -> list[NodeRecord]:
        """The cluster's nodes, in their order."""
        return self.service.db.read_sync(lambda tx: self._nodes(tx, cluster))

    def until(self, check: Callable[[Connection], Any]) -> None:
        """Wait until something is so."""
        deadline = time.monotonic() + PATIENCE
        while not self.service.db.read_sync(check):
            assert time.monotonic() < deadline, "it did not come to be in time"
            time.sleep(0.005)

    def job_is(self, name: str, state: JobState) -> None:
        """Wait until a job is in this state."""
        self.until(lambda tx: self._job(tx, name).execution is state)

    def wait_for(self, name: str, code: str) -> None:
        """Wait until the job is told this reason."""
        path = f"{EXPERIMENT}/jobs/{name}/explanation"
        deadline = time.monotonic() + PATIENCE
        while True:
            told = self.service.send("GET", path, version=NEW).json().get("whyWaiting") or {}
            if told.get("code") == code:
                return
            assert time.monotonic() < deadline, told
            time.sleep(0.005)

    @staticmethod
    def _job(tx: Connection, name: str) -> JobRecord:
        return jobs.get(tx, f"sub/group/ws/exp/{name}")

    @staticmethod
    def _nodes(tx: Connection, cluster: str) -> list[NodeRecord]:
        return nodes.of_cluster(tx, clusters.get(tx, f"sub/group/ws/{cluster}").uid)

    def _ready(self, tx: Connection, cluster: str) -> list[NodeRecord]:
        return [node for node in self._nodes(tx, cluster) if node.state is NodeState.READY]


@contextmanager
def whole_service(database: Path, home: Path) -> Iterator[WholeService]:
    """A service on a copy of the database, which has the newest schema."""
    home.mkdir(mode=0o700)
    shutil.copy(database, home / "trainshed.db")
    thread = LoopThread()
    try:
        # It has all that a service uses of a runner.
        service = Service(home, home / "trainshed.db", cast(asyncio.Runner, thread))
        world = World(service)
        listener = listen("127.0.0.1", 0)
        server = HttpServer(world.app, lambda: None)
        serving = asyncio.run_coroutine_threadsafe(server.serve(sockets=[listener]), thread.loop)
        url = url_of("127.0.0.1", listener, tls=False)
        service.run(service.http.aclose())
        service.http = httpx.AsyncClient(base_url=url, timeout=PATIENCE)
        try:
            whole = WholeService(service, world, url)
            whole.put(WS, {"location": "local"})
            whole.put(EXPERIMENT)
            yield whole
        finally:
            world.close()
            service.run(service.http.aclose())
            server.stop()
            serving.result(PATIENCE)
            service.db.close_sync()
    finally:
        thread.close()
