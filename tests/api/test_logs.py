"""The log stream of 2026-11-01: from any byte, live, complete, and over when the job is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.api.service import JOB, NEW, Service
from trainshed.store import jobs

pytestmark = pytest.mark.slow

LOG = f"{JOB}/logs/stdout.txt"


class Stream:
    """A request whose answer is read while it comes: a minimal ASGI server."""

    def __init__(self, service: Service, path: str, **query: Any) -> None:
        self.service = service
        self.started: asyncio.Queue[int] = asyncio.Queue()
        self.data = bytearray()
        self.news = asyncio.Event()
        self.gone = asyncio.Event()
        pairs = "&".join(f"{name}={value}" for name, value in {"api-version": NEW, **query}.items())
        self.scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "GET",
            "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": pairs.encode(),
            "root_path": "", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
            "headers": [(b"host", b"x"), (b"authorization", f"Bearer {service.tokens.admin}".encode())],
        }  # fmt: skip
        self.task = asyncio.ensure_future(service.app(self.scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.started.put_nowait(message["status"])
        else:
            self.data += message.get("body", b"")
            self.news.set()

    async def until(self, content: bytes) -> None:
        """Wait until exactly this was received."""
        async with asyncio.timeout(5):
            while bytes(self.data) != content:
                self.news.clear()
                await self.news.wait()

    async def status(self) -> int:
        return await asyncio.wait_for(self.started.get(), 5)

    async def ended(self) -> None:
        await asyncio.wait_for(self.task, 5)


@pytest.fixture
def log(shed: Service) -> Path:
    """Where stdout.txt of the running job ``j`` will be."""
    path = shed.stdouterr(shed.make_job()) / "stdout.txt"
    shed.controller.provision(count=1)
    shed.controller.start(["tvm-1_0-20180606t210834z"])
    return path


def append(path: Path, content: bytes) -> None:
    with path.open("ab") as file:
        file.write(content)


def finish(service: Service) -> None:
    job = service.db.read_sync(lambda tx: jobs.get(tx, "sub/group/ws/exp/j"))
    service.controller.finish(f"{job.uid}-1")


def streaming(service: Service, work: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await work()

    service.run(run())


def test_a_live_log_is_streamed_as_it_grows_and_ends_with_its_job(shed: Service, log: Path) -> None:
    append(log, b"one\n")

    async def work() -> None:
        stream = Stream(shed, LOG, follow="true")
        assert await stream.status() == 200
        await stream.until(b"one\n")
        append(log, b"two\n")
        await stream.until(b"one\ntwo\n")
        assert not stream.task.done()
        append(log, b"last words\n")
        await asyncio.to_thread(finish, shed)
        await stream.ended()
        assert bytes(stream.data) == b"one\ntwo\nlast words\n"

    streaming(shed, work)


def test_a_follower_waits_for_the_file(shed: Service, log: Path) -> None:
    async def work() -> None:
        stream = Stream(shed, LOG, follow="true")
        await asyncio.sleep(0)
        append(log, b"here")
        assert await stream.status() == 200
        await stream.until(b"here")
        await asyncio.to_thread(finish, shed)
        await stream.ended()

    streaming(shed, work)


def test_a_follower_of_a_file_that_never_came_gets_404(shed: Service, log: Path) -> None:
    async def work() -> None:
        stream = Stream(shed, f"{JOB}/logs/nothing.txt", follow="true")
        await asyncio.to_thread(finish, shed)
        assert await stream.status() == 404
        await stream.ended()
        assert b"LogFileNotFound" in stream.data

    streaming(shed, work)


def test_a_client_that_leaves_ends_the_stream(shed: Service, log: Path) -> None:
    append(log, b"x")

    async def work() -> None:
        stream = Stream(shed, LOG, follow="true")
        await stream.until(b"x")
        stream.gone.set()
        await stream.ended()

    streaming(shed, work)


def test_a_client_that_leaves_while_it_waits_ends_the_request(shed: Service, log: Path) -> None:
    async def work() -> None:
        stream = Stream(shed, LOG, follow="true")
        await asyncio.sleep(0)
        stream.gone.set()
        with suppress(Exception):
            await stream.ended()
        assert stream.task.done()

    streaming(shed, work)


def test_streams_end_when_the_service_stops(shed: Service, log: Path) -> None:
    append(log, b"x")

    async def work() -> None:
        stream = Stream(shed, LOG, follow="true")
        await stream.until(b"x")
        shed.stopping = True
        await stream.ended()

    streaming(shed, work)


def test_from_an_offset(shed: Service, log: Path) -> None:
    append(log, b"0123456789")
    assert shed.send("GET", LOG, version=NEW, offset=4).content == b"456789"


def test_at_the_end_there_is_nothing_more(shed: Service, log: Path) -> None:
    append(log, b"0123456789")
    answer = shed.send("GET", LOG, version=NEW, offset=10)
    assert (answer.status_code, answer.content) == (200, b"")


def test_beyond_the_end_is_416(shed: Service, log: Path) -> None:
    append(log, b"0123456789")
    assert shed.send("GET", LOG, version=NEW, offset=11).status_code == 416
    finish(shed)
    assert shed.send("GET", LOG, version=NEW, offset=11, follow="true").status_code == 416


def test_a_finished_jobs_log_is_whole(shed: Service, log: Path) -> None:
    content = bytes(range(256)) * 4096
    append(log, content)
    finish(shed)
    assert shed.send("GET", LOG, version=NEW, follow="true").content == content


@pytest.mark.parametrize("file", ["nothing.txt", "%2e", "%2e%2e", "a%00b"])
def test_other_names_are_not_found(shed: Service, log: Path, file: str) -> None:
    finish(shed)
    answer = shed.send("GET", f"{JOB}/logs/{file}", version=NEW, follow="true")
    assert answer.status_code in (400, 404)


def test_without_following_an_absent_file_says_how_to_wait(shed: Service, log: Path) -> None:
    error = shed.send("GET", LOG, version=NEW).json()["error"]
    assert error["code"] == "LogFileNotFound"
    assert "follow=true" in error["message"]
