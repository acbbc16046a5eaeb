"""The async client does the same as the sync one, by the same steps."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.client.stub_service import EXPERIMENT, TOKEN, WORKSPACE, Answer, StubService, answer, refusal
from tests.client.test_files import LISTING, _entry, _ranged
from tests.client.test_logs import LOG, TEXT, _from_offset
from trainshed.client import AsyncClient, Connection, NotFoundError


def _client(stub: StubService) -> AsyncClient:
    return AsyncClient(connection=Connection(stub.url, TOKEN))


def test_results_are_awaited_and_lists_iterated(stub: StubService) -> None:
    stub.on("GET", WORKSPACE, answer({"id": WORKSPACE, "name": "default"}))
    stub.on("GET", f"{EXPERIMENT}/jobs", answer({"value": [{"name": "a"}, {"name": "b"}]}))

    async def use() -> tuple[str, list[str]]:
        async with _client(stub) as client:
            return (await client.workspaces.get()).name, [job.name async for job in client.jobs.list()]

    assert asyncio.run(use()) == ("default", ["a", "b"])


def test_errors_are_the_same(stub: StubService) -> None:
    stub.on("GET", WORKSPACE, refusal(404, "WorkspaceNotFound", "not there"))

    async def use() -> None:
        async with _client(stub) as client:
            await client.workspaces.get()

    with pytest.raises(NotFoundError, match="not there"):
        asyncio.run(use())


def test_logs_go_on_after_a_break(stub: StubService) -> None:
    stub.on("GET", LOG, Answer(pieces=(b"one\ntw",), break_off=True), _from_offset)

    async def use() -> bytes:
        async with _client(stub) as client:
            return b"".join([piece async for piece in client.jobs.stream_log("j")])

    assert asyncio.run(use()) == TEXT


def test_downloads_work(stub: StubService, tmp_path: Path) -> None:
    stub.on("POST", LISTING, answer({"value": [_entry(stub, "m", "/f/1")]}))
    stub.on("GET", "/f/1", _ranged)

    async def use() -> list[Path]:
        async with _client(stub) as client:
            return [done.path async for done in client.files.download("j", "OUTPUT", tmp_path)]

    assert asyncio.run(use()) == [tmp_path / "m"]


def test_two_waits_overlap(stub: StubService) -> None:
    job = f"{EXPERIMENT}/jobs/j"
    stub.on("GET", job, *[answer({"name": "j", "properties": {"executionState": "running"}})] * 3,
            answer({"name": "j", "properties": {"executionState": "succeeded"}}))  # fmt: skip

    async def use() -> list[bool]:
        async with _client(stub) as client:
            ended = await asyncio.gather(client.jobs.wait("j"), client.jobs.wait("j"))
            return [one.final for one in ended]

    assert asyncio.run(use()) == [True, True]
