"""Where things lie, and how they get there."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from trainshed.engines.local.layout import Layout, read_all, write_durably


def test_one_home_has_one_mark_and_one_socket_whatever_it_is_called(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "link").symlink_to("home")
    real, linked = Layout(tmp_path / "home"), Layout(tmp_path / "link")
    assert real.mark == linked.mark
    assert real.socket == linked.socket
    assert real.mark != Layout(tmp_path / "other").mark


def test_the_socket_of_a_deep_home_is_short() -> None:
    deep = Layout(Path("/", *["deep-folder"] * 12))
    assert len(os.fsencode(deep.socket)) < 108
    assert str(os.geteuid()) in str(deep.socket)


def test_folders_are_closed_to_others(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "home")
    layout.make()
    layout.make()
    for folder in (layout.root, layout.clusters(), layout.nodes(), layout.attempts(), layout.log.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_an_open_folder_for_the_socket_is_refused(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "home")
    layout.root.mkdir(parents=True)
    layout.root.chmod(0o777)
    with pytest.raises(PermissionError, match="0700"):
        layout.make()


def test_files_are_replaced_as_a_whole_and_private(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    write_durably(path, {"n": 1})
    write_durably(path, {"n": 2})
    write_durably(tmp_path / "a.json", {"n": 0})
    (tmp_path / ".c.json.new").write_text("{")  # what a crash may leave
    assert read_all(tmp_path) == [{"n": 0}, {"n": 2}]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_waits_for_deletion_is_found_again(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.node("n1").mkdir(parents=True)
    removed = layout.removed("n1")
    layout.node("n1").rename(removed)
    layout.node("n2").mkdir()
    assert layout.waiting_for_deletion() == [removed]
