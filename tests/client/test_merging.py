"""Several logs as one: order, filters, growth, and answers that are lost on the way."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.client.stub_service import EXPERIMENT, Answer, Asked, StubService, answer, refusal
from trainshed.client import Client, NotFoundError
from trainshed.client import merging as merging_module
from trainshed.client.models import Log

pytestmark = pytest.mark.slow

LOGS = f"{EXPERIMENT}/jobs/j/logs"
TIMES = "ranks/times-0.txt"


class FakeJob:
    """Logs of a job, served by the stub; ``rounds`` say what has been written at each look."""

    def __init__(self, stub: StubService, *rounds: dict[str, bytes], complete: bool = True) -> None:
        self.stub = stub
        self.rounds = list(rounds)
        self.complete = complete
        self.now = self.rounds[0]
        stub.on("GET", LOGS, self.list)
        for name in {name for files in rounds for name in files}:
            stub.on("GET", f"{LOGS}/{name}", lambda asked, name=name: self.read(name, asked))

    def list(self, _asked: Asked) -> Answer:
        self.now = self.rounds.pop(0) if self.rounds else self.now
        rows = [self.row(name, text) for name, text in sorted(self.now.items()) if name != TIMES]
        return answer({"value": rows, "complete": self.complete and not self.rounds})

    def row(self, name: str, text: bytes) -> dict[str, Any]:
        row: dict[str, Any] = {
            "name": name, "stream": "stdout", "role": "rank", "rank": int(name[-5]), "index": int(name[-5]),
            "size": len(text), "lastModified": "1970-01-01T00:00:09Z",
        }  # fmt: skip
        return row | ({"times": TIMES, "timesSize": len(self.now[TIMES])} if TIMES in self.now else {})

    def read(self, name: str, asked: Asked) -> Answer:
        offset, length = int(asked.query["offset"]), int(asked.query["length"])
        return Answer(200, self.now[name][offset : offset + length])


def everything(_log: Log) -> bool:
    return True


def told(client: Client, **how: Any) -> list[str]:
    """``RANK TEXT`` of each line."""
    return [f"{line.log.rank} {line.text.decode()}" for line in client.jobs.log_lines("j", everything, **how)]


A, B = "stdout-0.txt", "stdout-1.txt"
#: Rank 1 spoke between the two lines of rank 0.
MARKS = f"1000 4 {A}\n2000 4 {B}\n3000 8 {A}\n".encode()
ENDED = {A: b"a 1\na 2\n", B: b"b 1\n", TIMES: MARKS}


def test_lines_come_in_the_order_of_their_times(client: Client, stub: StubService) -> None:
    FakeJob(stub, ENDED)
    lines = list(client.jobs.log_lines("j", everything, follow=False))
    assert [line.text for line in lines] == [b"a 1", b"b 1", b"a 2"]
    assert [line.log.label for line in lines] == ["rank 0", "rank 1", "rank 0"]
    assert lines[1].time == datetime.fromtimestamp(2, UTC)


def test_only_what_is_wanted_is_read(client: Client, stub: StubService) -> None:
    FakeJob(stub, ENDED)
    lines = client.jobs.log_lines("j", lambda log: log.rank == 1)
    assert [line.text for line in lines] == [b"b 1"]
    assert not stub.requests("GET", f"{LOGS}/{A}")


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.5, ["0 a 1", "1 b 1", "0 a 2"]), (2.0, ["1 b 1", "0 a 2"]), (2.5, ["0 a 2"]), (3.5, [])],
)
def test_since(client: Client, stub: StubService, seconds: float, expected: list[str]) -> None:
    FakeJob(stub, ENDED)
    assert told(client, since=datetime.fromtimestamp(seconds, UTC)) == expected


def test_without_times_a_line_is_as_old_as_its_file(client: Client, stub: StubService) -> None:
    job = FakeJob(stub, {A: b"a\n"})
    assert told(client, since=datetime.fromtimestamp(9, UTC)) == ["0 a"]
    job.rounds = [{A: b"a\n"}]
    assert told(client, since=datetime.fromtimestamp(10, UTC)) == []


def test_most_of_what_is_too_old_is_not_read(client: Client, stub: StubService) -> None:
    old = b"x" * 99 + b"\n"
    count = 20_000
    FakeJob(stub, {A: old * count + b"new\n", TIMES: f"1000 {100 * count} {A}\n5000 {100 * count + 4} {A}\n".encode()})
    assert told(client, since=datetime.fromtimestamp(4, UTC)) == ["0 new"]
    assert sum(int(asked.query["length"]) for asked in stub.requests("GET", f"{LOGS}/{A}")) <= 1 << 19


def test_matching_and_tail_count_together(client: Client, stub: StubService) -> None:
    FakeJob(stub, ENDED)
    assert told(client, matching=re.compile(rb"^a")) == ["0 a 1", "0 a 2"]
    FakeJob(stub, ENDED)
    assert told(client, matching=re.compile(rb"1$"), tail=1) == ["1 b 1"]


def test_a_growing_log_is_followed_to_its_end(client: Client, stub: StubService, pauses: list[float]) -> None:
    """A line is told once it is whole; at the end also what has no end."""
    FakeJob(stub, {A: b"on"}, {A: b"one\ntwo\n", B: b""}, {A: b"one\ntwo\n", B: b"b"}, {A: b"one\ntwo\nthr", B: b"b\n"})
    assert told(client) == ["0 one", "0 two", "0 thr", "1 b"]
    assert len(pauses) == 3


def test_tail_is_about_what_there_is_at_first(client: Client, stub: StubService) -> None:
    FakeJob(stub, {A: b"1\n2\n3\n"}, {A: b"1\n2\n3\n4\n5\n"})
    assert told(client, tail=1) == ["0 3", "0 4", "0 5"]


def test_without_following_there_is_one_look(client: Client, stub: StubService) -> None:
    FakeJob(stub, {A: b"one\ntw"}, {A: b"one\ntwo\n"}, complete=False)
    assert told(client, follow=False) == ["0 one", "0 tw"]


def test_nothing_is_lost_or_doubled_over_broken_answers(client: Client, stub: StubService) -> None:
    text = b"".join(b"line %d\n" % number for number in range(50_000))
    job = FakeJob(stub, {A: text[:300_000]}, {A: text})
    whole = lambda asked: job.read(A, asked)  # noqa: E731
    cut = lambda asked: Answer(200, whole(asked).body[:1000], missing=10)  # noqa: E731
    stub.on("GET", f"{LOGS}/{A}", Answer(503), cut, whole, Answer(break_off=True), cut, Answer(502), whole)
    assert told(client) == [f"0 line {number}" for number in range(50_000)]


def test_a_service_that_is_away_for_long_is_waited_for(client: Client, stub: StubService) -> None:
    job = FakeJob(stub, {A: b"one\n"})
    stub.on("GET", LOGS, *[Answer(503)] * 20, job.list)
    assert told(client) == ["0 one"]


def test_patience_has_a_bound(client: Client, stub: StubService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging_module, "PATIENCE", 0.0)
    stub.on("GET", LOGS, Answer(503))
    with pytest.raises(Exception, match="503"):
        told(client)


def test_an_unknown_job_raises(client: Client, stub: StubService) -> None:
    stub.on("GET", LOGS, refusal(404, "JobNotFound", "no j"))
    with pytest.raises(NotFoundError, match="no j"):
        told(client)


def test_a_file_that_goes_away_ends_quietly(client: Client, stub: StubService) -> None:
    FakeJob(stub, {A: b"one\n", B: b"two\n"})
    stub.on("GET", f"{LOGS}/{A}", refusal(404, "LogFileNotFound", "gone"))
    assert told(client) == ["1 two"]


def test_a_line_without_end_comes_in_parts(client: Client, stub: StubService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging_module, "LONGEST_LINE", 1000)
    monkeypatch.setattr(merging_module, "PIECE", 600)
    FakeJob(stub, {A: b"x" * 3000})
    assert "".join(line.removeprefix("0 ") for line in told(client)) == "x" * 3000
