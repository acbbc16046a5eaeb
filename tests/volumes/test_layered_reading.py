"""Logs that are kept by nodes and logs in their own place, read as one directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainshed.volumes.layered_reading import KeptLogsReader
from trainshed.volumes.reading import DirectoryReader, Entry, OpenFile, Reader, Unreadable


class Down:
    """A double of storage that does not answer."""

    def list(self, inside: str, after: str | None, limit: int) -> list[Entry]:
        raise Unreadable("it is down")

    def open(self, inside: str) -> OpenFile | None:
        raise Unreadable("it is down")


class Counting:
    """Notes what is opened."""

    def __init__(self, reader: DirectoryReader) -> None:
        self.list = reader.list
        self.asked: list[str] = []
        self._open = reader.open

    def open(self, inside: str) -> OpenFile | None:
        self.asked.append(inside)
        return self._open(inside)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    for path, text in (("kept/0/stdout.txt", "newer"), ("kept/1/execution-c-2.log", "log"), ("own/stdout.txt", "old"),
                       ("own/model.txt", "m"), ("own/ranks/x", ""), ("kept/1/ranks/y", "")):  # fmt: skip
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path / "kept"


def reader(kept: Path, own: Reader | None = None) -> KeptLogsReader:
    root = str(kept.parent)
    return KeptLogsReader(DirectoryReader(str(kept), root), own or DirectoryReader(f"{root}/own", root))


def read(found: OpenFile | None) -> bytes:
    assert found is not None
    content = found.read(0, 100)
    found.close()
    return content


def test_one_listing(kept: Path) -> None:
    names = ["execution-c-2.log", "model.txt", "ranks", "stdout.txt"]
    assert [entry.name for entry in reader(kept).list("", None, 10)] == names
    assert [entry.name for entry in reader(kept).list("ranks", None, 10)] == ["x", "y"]
    assert [entry.name for entry in reader(kept).list("", "model.txt", 1)] == ["ranks"]


def test_what_is_kept_is_newer(kept: Path) -> None:
    assert read(reader(kept).open("stdout.txt")) == b"newer"
    assert read(reader(kept).open("model.txt")) == b"m"
    assert reader(kept).open("none") is None


def test_storage_that_is_down_hides_nothing_that_is_kept(kept: Path) -> None:
    assert len(reader(kept, Down()).list("", None, 10)) == 3
    with pytest.raises(Unreadable):
        reader(kept, Down()).list("elsewhere", None, 10)


def test_nothing_is_kept(kept: Path) -> None:
    absent = kept.with_name("absent")
    assert [entry.name for entry in reader(absent).list("", None, 10)] == ["model.txt", "ranks", "stdout.txt"]


def test_a_far_place_is_not_asked_again_and_again(kept: Path) -> None:
    own = Counting(DirectoryReader(str(kept.with_name("own")), str(kept.parent)))
    waiting = reader(kept, own)
    assert [waiting.open("later.txt") for _ in range(5)] == [None] * 5
    assert own.asked == ["later.txt"]
    (kept / "0/later.txt").write_text("here")
    assert read(waiting.open("later.txt")) == b"here"
