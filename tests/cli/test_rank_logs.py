"""``trainshed job logs`` by rank, node, time and text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.cli.conftest import Run
from tests.client.stub_service import EXPERIMENT, Answer, StubService, answer
from trainshed.cli.times import moment

JOB = f"{EXPERIMENT}/jobs/j"


def row(name: str, role: str, rank: int | None, node: str, size: int) -> dict[str, Any]:
    """One entry of the list of logs."""
    stream = name.rpartition("/")[2].partition("-")[0].removesuffix(".txt")
    found = {"name": name, "stream": stream, "role": role, "index": rank or 0, "size": size}
    found |= {"node": node, "nodeId": f"tvm-{node}", "lastModified": "2026-11-21T09:00:00Z"}
    return found | ({} if rank is None else {"rank": rank})


@pytest.fixture
def job(stub: StubService) -> StubService:
    """An MPI job that has ended: two ranks on two nodes."""
    texts = {
        "ranks/stdout-0.txt": b"zero loss 1\n",
        "ranks/stdout-1.txt": b"one loss 2\nepoch\n",
        "ranks/stderr-1.txt": b"careful\n",
        "stdout.txt": b"launcher\nzero loss 1\none loss 2\nepoch\n",
    }
    rows = [
        row("ranks/stdout-0.txt", "rank", 0, "c-0", 12),
        row("ranks/stdout-1.txt", "rank", 1, "c-1", 17),
        row("ranks/stderr-1.txt", "rank", 1, "c-1", 8),
        row("stdout.txt", "master", None, "c-0", 40),
    ]
    properties = {"executionState": "succeeded", "customMpiSettings": {}, "toolType": "custommpi"}
    stub.on("GET", JOB, answer({"name": "j", "id": JOB, "properties": properties}))
    stub.on("GET", f"{JOB}/logs", answer({"value": rows, "complete": True}))
    for name, text in texts.items():
        stub.on("GET", f"{JOB}/logs/{name}", lambda asked, text=text: Answer(200, text[int(asked.query["offset"]) :]))
    return stub


@pytest.mark.parametrize("follow", [(), ("-f",)])
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--rank", "1"), "one loss 2\nepoch\n"),
        (("--rank", "1", "--stderr"), "careful\n"),
        (("--rank", "0", "--rank", "1", "--grep", "loss"), "[rank 0] zero loss 1\n[rank 1] one loss 2\n"),
        (("--all",), "[rank 0] zero loss 1\n[rank 1] one loss 2\n[rank 1] epoch\n"),
        (("--all", "--tail", "1"), "[rank 1] epoch\n"),
        (("--node", "c-1"), "[rank 1] one loss 2\n[rank 1] epoch\n"),
        (("--node", "tvm-c-0"), "[rank 0] zero loss 1\n"),
        (("--grep", "loss [12]$"), "zero loss 1\none loss 2\n"),
        (("--all", "--since", "2026-11-21T08:59:59Z", "--grep", "epoch"), "[rank 1] epoch\n"),
        (("--all", "--since", "2026-11-21T09:00:01Z"), ""),
    ],
)
def test_what_is_shown(
    trainshed: Run, job: StubService, arguments: tuple[str, ...], expected: str, follow: tuple[str, ...]
) -> None:
    done = trainshed("job", "logs", "j", *follow, *arguments)
    assert (done.code, done.out) == (0, expected)


def test_a_rank_that_is_not_there(trainshed: Run, job: StubService) -> None:
    done = trainshed("job", "logs", "j", "--rank", "7")
    assert done.code != 0
    assert "its ranks: 0, 1; its nodes: c-0, c-1" in done.err


@pytest.mark.parametrize(
    "arguments", [("--grep", "("), ("--since", "yesterday"), ("--file", "x", "--rank", "0"), ("--rank", "-1")]
)
def test_what_is_refused(trainshed: Run, job: StubService, arguments: tuple[str, ...]) -> None:
    done = trainshed("job", "logs", "j", *arguments)
    assert done.code == 2
    assert arguments[0].lstrip("-") in done.err


NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", NOW - timedelta(seconds=90)),
        ("1h30m", NOW - timedelta(minutes=90)),
        ("2026-11-21T09:00:00Z", NOW - timedelta(minutes=30)),
        ("2026-11-21T10:00:00+01:00", NOW - timedelta(minutes=30)),
    ],
)
def test_times(text: str, expected: datetime) -> None:
    assert moment(text, NOW) == expected
