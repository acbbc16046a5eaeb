"""What files hold is remembered for as long as they cannot have changed, and no longer."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trainshed.volumes import content_hashes
from trainshed.volumes.content_hashes import ContentHashes


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows with each file that is read."""
    real, times = hashlib.file_digest, []

    def counted(file: Any, name: str) -> Any:
        times.append(name)
        return real(file, name)

    monkeypatch.setattr(content_hashes.hashlib, "file_digest", counted)
    return times


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    """An open file that holds ``content``."""
    (tmp_path / "file").write_bytes(b"content")
    descriptor = os.open(tmp_path / "file", os.O_RDWR)
    yield descriptor
    os.close(descriptor)


CONTENT, OTHER = (hashlib.sha256(text).hexdigest() for text in (b"content", b"CONTENT"))


def ask(folder: Path, descriptor: int) -> str | None:
    with ContentHashes(folder / "hashes.db") as hashes:
        return hashes.of(descriptor)


def test_a_file_left_alone_is_read_once(
    tmp_path: Path, file: int, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if the file had been there for a minute.
    monkeypatch.setattr(content_hashes, "SETTLED", -1)
    assert [ask(tmp_path, file), ask(tmp_path, file)] == [CONTENT, CONTENT]
    assert len(read) == 1


def test_a_file_changed_just_now_is_read_again(tmp_path: Path, file: int, read: list[str]) -> None:
    assert [ask(tmp_path, file), ask(tmp_path, file)] == [CONTENT, CONTENT]
    assert len(read) == 2


def test_a_change_that_keeps_size_and_time_is_seen(tmp_path: Path, file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content_hashes, "SETTLED", -1)
    facts = os.fstat(file)
    assert ask(tmp_path, file) == CONTENT
    os.pwrite(file, b"CONTENT", 0)
    os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert ask(tmp_path, file) == OTHER


def test_a_file_that_is_written_while_it_is_read_has_no_hash(
    tmp_path: Path, file: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = hashlib.file_digest

    def meanwhile(source: Any, name: str) -> Any:
        os.pwrite(file, b"longer content", 0)
        return real(source, name)

    monkeypatch.setattr(content_hashes.hashlib, "file_digest", meanwhile)
    assert ask(tmp_path, file) is None


def test_what_the_service_wrote_is_known_until_another_writes(tmp_path: Path, file: int, read: list[str]) -> None:
    for change, known in ((False, True), (True, False)):
        with ContentHashes(tmp_path / "hashes.db") as hashes:
            stamp = hashes.stamp(file)
            if change:
                os.pwrite(file, b"CONTENT", 0)
            hashes.wrote(file, stamp, CONTENT)
        read.clear()
        assert ask(tmp_path, file) == (CONTENT if known else OTHER)
        assert read == ([] if known else ["sha256"])


def test_a_damaged_file_of_hashes_is_made_anew(
    tmp_path: Path, file: int, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content_hashes, "SETTLED", -1)
    (tmp_path / "hashes.db").write_bytes(b"no database at all" * 1000)
    assert [ask(tmp_path, file) for _ in range(3)] == [CONTENT] * 3
    assert len(read) == 2


def test_hashes_that_cannot_be_kept_do_no_harm(tmp_path: Path, file: int) -> None:
    (tmp_path / "hashes.db").mkdir()
    assert ask(tmp_path, file) == CONTENT
