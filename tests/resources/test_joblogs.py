"""Whose output a log is, by name and by the nodes' lists, and when its lines were written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainshed.resources import directories, joblogs
from trainshed.resources.directories import execution_log, preparation_logs, rank_logs, task_logs
from trainshed.resources.joblogs import LogSource, LogTimes


@pytest.mark.parametrize(
    ("name", "stream", "role", "rank", "node"),
    [
        ("stdout.txt", "stdout", "master", 0, ""),
        (rank_logs(12)[1], "stderr", "rank", 12, ""),
        (task_logs("wk", 1)[0], "stdout", "worker", 1, ""),
        (task_logs("ps", 1)[0], "stdout", "ps", None, ""),
        (preparation_logs()[0], "stdout", "preparation", None, ""),
        (preparation_logs("c-2")[1], "stderr", "preparation", None, "c-2"),
        (execution_log(), "service", "service", None, ""),
        (execution_log("c-2"), "service", "service", None, "c-2"),
        (directories.launched_logs(3)[0], "stdout", "rank", 3, ""),
    ],
)
def test_what_a_name_says(name: str, stream: str, role: str, rank: int | None, node: str) -> None:
    found = joblogs.by_name(name)
    assert found is not None
    assert (found.stream, found.role, found.rank, found.node) == (stream, role, rank, node)


@pytest.mark.parametrize(
    "name",
    ["model.pt", "stdout-wk.txt", "stdout-wk-x.txt", "other/stdout-1.txt", "ranks/stdout.txt", "ranks/logs-0.json"],
)
def test_other_files_are_no_logs(name: str) -> None:
    assert joblogs.by_name(name) is None


def test_a_list_says_again_what_was_written() -> None:
    sources = [
        LogSource("stdout.txt", "stdout", "master", 0, None, "c-1", "tvm-1", "ranks/times-1.txt"),
        LogSource("ranks/stdout-3.txt", "stdout", "rank", 3, 3, "c-1", "tvm-1", "ranks/times-1.txt"),
    ]
    assert joblogs.read_list("logs-1.json", joblogs.list_text(sources).encode()) == sources


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b'{"logs": 3}', b'{"logs": [{}]}', b'{"logs": [null]}', b"\xff", b"[" * 5000]
)
def test_what_a_job_put_in_a_lists_place_is_left_out(text: bytes) -> None:
    assert joblogs.read_list("logs-0.json", text) == []


def test_lists_know_more_than_names_and_ranks_come_in_order() -> None:
    names = ["ranks/stdout-10.txt", "ranks/stderr-2.txt", "ranks/stdout-2.txt", "stdout.txt", "execution.log", "x"]
    listed = [
        LogSource("stdout.txt", "stdout", "master", 0, None, "c-0"),
        LogSource("ranks/stdout-10.txt", "stdout", "rank", 10, 10, "c-1"),
        LogSource("../../secret", "stdout", "rank", 11, 11, "c-1"),
    ]
    found = joblogs.describe(names, listed)
    assert [(s.name, s.node) for s in found] == [
        ("ranks/stdout-2.txt", ""), ("ranks/stderr-2.txt", ""), ("ranks/stdout-10.txt", "c-1"),
        ("stdout.txt", "c-0"), ("execution.log", ""),
    ]  # fmt: skip


def test_when_bytes_were_there() -> None:
    times = LogTimes()
    text = b"1000 10 a\n1200 5 b\n1400 30 a\n"
    for piece in (text[:7], text[7:]):
        times.feed(piece)
    assert [times.when("a", size) for size in (1, 10, 11, 30, 31)] == [1000, 1000, 1400, 1400, None]
    assert [times.size_before("a", time) for time in (1000, 1001, 1400, 1401)] == [0, 10, 10, 30]
    assert times.when("c", 1) is None and times.size_before("c", 9999) == 0


@given(st.lists(st.binary(max_size=40)))
def test_nothing_that_a_job_writes_there_breaks_it(pieces: list[bytes]) -> None:
    times = LogTimes()
    for piece in pieces:
        times.feed(piece)
    times.feed(b"\n5 7 good\n")
    assert times.when("good", 7) == 5


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50))))
def test_times_and_sizes_only_grow(marks: list[tuple[int, int]]) -> None:
    times = LogTimes()
    times.feed("".join(f"{time} {size} a\n" for time, size in marks).encode())
    seen = [when for size in range(51) if (when := times.when("a", size)) is not None]
    assert seen == sorted(seen)
    for time in range(52):
        size = times.size_before("a", time)
        assert size == 0 or (times.when("a", size) or 0) < time
