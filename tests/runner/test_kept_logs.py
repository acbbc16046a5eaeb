"""Copying kept logs to their volume: what has grown, folders too, and nothing that a job planted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trainshed.runner.kept_logs import _SMALL, Places, copy_logs, is_due


@pytest.fixture
def places(tmp_path: Path) -> Places:
    kept, volume = tmp_path / "root/kept", tmp_path / "jobs/mounts/blob"
    for folder in (kept / "ranks", volume):
        folder.mkdir(parents=True)
    return Places(str(kept), str(tmp_path / "root"), str(volume / "logs/seg"), str(tmp_path / "jobs"), str(volume))


def copied(places: Places, before: dict[str, int] | None = None, *, last: bool = True) -> dict[str, int]:
    return dict(copy_logs(places, os.geteuid(), before or {}, last=last))


def test_files_and_folders_get_to_their_place(places: Places) -> None:
    kept = Path(places.kept)
    (kept / "stdout.txt").write_bytes(b"one\n")
    (kept / "ranks/stdout-1.txt").write_bytes(b"of rank 1\n")
    assert copied(places) == {"ranks/stdout-1.txt": 10, "stdout.txt": 4}
    assert (Path(places.own) / "stdout.txt").read_bytes() == b"one\n"
    assert (Path(places.own) / "ranks/stdout-1.txt").read_bytes() == b"of rank 1\n"


def test_only_what_has_grown_is_copied_again(places: Places) -> None:
    log = Path(places.kept) / "stdout.txt"
    log.write_bytes(b"one\n")
    before = copied(places)
    (Path(places.own) / "stdout.txt").unlink()
    assert copied(places, before) == {}
    log.write_bytes(b"one\ntwo\n")
    assert copied(places, before, last=False) == {"stdout.txt": 8}


@pytest.mark.parametrize(
    ("size", "before", "last", "due"),
    [
        (5, -1, False, True),
        (5, 5, True, False),
        (6, 5, False, True),
        (_SMALL + 2, _SMALL + 1, False, False),
        (2 * _SMALL, _SMALL, False, True),
        (_SMALL + 2, _SMALL + 1, True, True),
    ],
)
def test_long_logs_are_copied_less_often(size: int, before: int, last: bool, due: bool) -> None:
    assert is_due(size, before, last) is due


def test_links_on_either_side_are_not_followed(places: Places, tmp_path: Path) -> None:
    secret, victim = tmp_path / "secret", tmp_path / "victim"
    secret.write_text("secret")
    victim.write_text("as it was")
    (Path(places.kept) / "stdout.txt").symlink_to(secret)
    (Path(places.kept) / "folder").symlink_to(tmp_path)
    (Path(places.kept) / "stderr.txt").write_text("words")
    Path(places.own).mkdir(parents=True)
    (Path(places.own) / "stderr.txt").symlink_to(victim)
    assert copied(places) == {}
    assert victim.read_text() == "as it was"
    assert sorted(path.name for path in Path(places.own).iterdir()) == ["ranks", "stderr.txt"]


def test_files_of_others_are_left(places: Places) -> None:
    (Path(places.kept) / "stdout.txt").write_text("words")
    assert dict(copy_logs(places, os.geteuid() + 1, {}, last=True)) == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="without root's rights volumes are shown by links")
def test_a_link_in_the_place_of_the_volume_is_not_followed(places: Places, tmp_path: Path) -> None:
    (Path(places.kept) / "stdout.txt").write_text("words")
    Path(places.volume).rmdir()
    Path(places.volume).symlink_to(tmp_path)
    assert copied(places) == {}
    assert not (tmp_path / "logs").exists()
