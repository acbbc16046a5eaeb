"""Embedded storage on disk: the layout that scripts rely on, and names that lead nowhere else."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainshed.volumes.embedded import EmbeddedStorage, account_path, file_server_path


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[EmbeddedStorage]:
    """Storage in a home, under a umask that would let everybody read."""
    before = os.umask(0)
    yield EmbeddedStorage(tmp_path)
    os.umask(before)


def test_who_was_frozen_before_it_moved_a_directory_aside_cannot_move_its_successor(
    storage: EmbeddedStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has looked, and found nothing aside; then another process removes all, and an account is made anew."""
    storage.make_share("mydata", "old")
    look = Path.exists

    def frozen_after_looking(path: Path) -> bool:
        found = look(path)
        monkeypatch.setattr(Path, "exists", look)
        storage.remove("storage/mydata", "u-1", leave_mark=True)
        storage.make_share("mydata", "new")
        return found

    monkeypatch.setattr(Path, "exists", frozen_after_looking)
    with pytest.raises(NotADirectoryError):
        storage.remove("storage/mydata", "u-1", leave_mark=True)
    storage.remove("storage/mydata", "u-1", leave_mark=True)
    assert (tmp_path / "storage/mydata/files/new").is_dir()
    assert not (tmp_path / "storage/mydata/files/old").exists()
    assert [path.name for path in (tmp_path / "storage/.removed").iterdir()] == ["u-1"]
    storage.forget_marks()
    assert list((tmp_path / "storage/.removed").iterdir()) == []


def test_the_layout(storage: EmbeddedStorage, tmp_path: Path) -> None:
    for _ in range(2):
        assert storage.make_share("mydata", "my-share") == tmp_path / "storage/mydata/files/my-share"
        assert storage.make_container("mydata", "models") == tmp_path / "storage/mydata/blobs/models"
        assert storage.make_account("other") == tmp_path / "storage/other"
    made = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert made == [
        "storage", "storage/mydata", "storage/mydata/blobs",
        "storage/mydata/blobs/models", "storage/mydata/files", "storage/mydata/files/my-share", "storage/other",
        "storage/other/blobs", "storage/other/files",
    ]  # fmt: skip
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")} == {0o700}


@pytest.mark.parametrize("name", ["", "..", "a/b", "../x", "UP", ".removed", "a" * 64, "a\0b", "$other"])
def test_names_lead_nowhere_else(storage: EmbeddedStorage, tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        storage.make_share("mydata", name)
    with pytest.raises(ValueError, match="name"):
        account_path(name)
    assert list(tmp_path.rglob("*")) == []


def test_what_is_moved_aside_frees_its_place_at_once(storage: EmbeddedStorage, tmp_path: Path) -> None:
    (storage.make_share("mydata", "share") / "file").write_text("old")
    aside = storage.move_aside("storage/mydata", "u-1")
    assert (tmp_path / aside / "files/share/file").read_text() == "old"
    storage.make_share("mydata", "share")
    # A second call for the same removal must not take the new account.
    for path in (aside, "storage/mydata"):
        assert storage.move_aside(path, "u-1") == aside
    assert (tmp_path / "storage/mydata/files/share").is_dir()
    storage.remove(aside, "u-1")
    assert not (tmp_path / aside).exists()
    assert (tmp_path / "storage/mydata/files/share").is_dir()


def test_also_where_there_was_nothing_to_move(storage: EmbeddedStorage, tmp_path: Path) -> None:
    storage.move_aside("storage/mydata", "u-1")
    storage.make_share("mydata", "share")
    storage.move_aside("storage/mydata", "u-1")
    assert (tmp_path / "storage/mydata/files/share").is_dir()


def test_removing_follows_no_link_and_can_be_repeated(storage: EmbeddedStorage, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("kept")
    (tmp_path / file_server_path("u-1")).mkdir(parents=True)
    (tmp_path / file_server_path("u-1") / "link").symlink_to(precious)
    for _ in range(2):
        storage.remove(file_server_path("u-1"), "u-1")
    assert not (tmp_path / "fileservers/u-1").exists()
    assert (precious / "file").read_text() == "kept"
