"""Following a log across broken connections."""

from __future__ import annotations

import pytest

from tests.client.stub_service import EXPERIMENT, Answer, Asked, StubService, answer, refusal
from trainshed.client import Client, NotFoundError, ServiceUnreachableError
from trainshed.client import logs as logs_module

LOG = f"{EXPERIMENT}/jobs/j/logs/stdout.txt"
TEXT = b"one\ntwo\nthree\n"


def _from_offset(asked: Asked) -> Answer:
    rest = TEXT[int(asked.query["offset"]) :]
    return Answer(pieces=(rest,) if rest else ())


def test_a_log_is_read_from_an_offset(client: Client, stub: StubService) -> None:
    stub.on("GET", LOG, _from_offset)
    assert b"".join(client.jobs.stream_log("j", offset=4, follow=False)) == b"two\nthree\n"
    (asked,) = stub.asked
    assert asked.query["follow"] == "false"


def test_a_broken_stream_goes_on_at_the_byte_where_it_broke(client: Client, stub: StubService) -> None:
    broken = Answer(pieces=(b"one\ntw",), break_off=True)
    stub.on("GET", LOG, broken, Answer(break_off=True), _from_offset)
    assert b"".join(client.jobs.stream_log("j")) == TEXT
    offsets = [asked.query["offset"] for asked in stub.requests("GET", LOG)]
    assert offsets[:3] == ["0", "6", "6"]


def test_an_orderly_end_in_the_middle_is_noticed(client: Client, stub: StubService) -> None:
    stub.on("GET", LOG, Answer(pieces=(b"one\n",)), _from_offset)
    assert b"".join(client.jobs.stream_log("j")) == TEXT


def test_a_service_that_restarts_is_waited_for(client: Client, stub: StubService) -> None:
    stub.on("GET", LOG, Answer(503), Answer(503), _from_offset)
    assert b"".join(client.jobs.stream_log("j")) == TEXT


def test_an_unknown_file_raises(client: Client, stub: StubService) -> None:
    stub.on("GET", LOG, refusal(404, "FileNotFound", "no stdout.txt"))
    with pytest.raises(NotFoundError, match=r"no stdout\.txt"):
        list(client.jobs.stream_log("j"))


def test_patience_has_a_bound(client: Client, stub: StubService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs_module, "PATIENCE", 0.0)
    stub.on("GET", LOG, Answer(break_off=True))
    with pytest.raises(ServiceUnreachableError, match="broke off at byte 0"):
        list(client.jobs.stream_log("j"))


def test_leaving_early_closes_the_connection(client: Client, stub: StubService) -> None:
    stub.on("GET", LOG, Answer(pieces=(b"one\n", b"two\n")))
    pieces = client.jobs.stream_log("j")
    assert next(pieces)
    pieces.close()
    stub.on("GET", LOG, _from_offset)
    assert b"".join(client.jobs.stream_log("j")) == TEXT


def test_a_file_that_is_still_to_come_is_asked_for_again(client: Client, stub: StubService) -> None:
    job = LOG.partition("/logs")[0]
    stub.on("GET", job, answer({"name": "j", "properties": {"executionState": "running"}}))
    stub.on("GET", LOG, refusal(404, "LogFileNotFound", "stopping"), _from_offset)
    assert b"".join(client.jobs.stream_log("j")) == TEXT
