"""The nodes of a gang make one directory at the same time, when its parents are not there either."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trainshed.runner.hands import _make_directories


def test_another_node_is_faster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other makes the directory between this one's making of its parent and of itself."""
    wanted, real = tmp_path / "parent" / "logs", os.mkdir

    def mkdir(path: str, mode: int = 0o777) -> None:
        real(path, mode)
        if path == str(wanted.parent):
            real(str(wanted))

    monkeypatch.setattr(os, "mkdir", mkdir)
    _make_directories(str(wanted))
    assert wanted.is_dir()


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("")
    with pytest.raises(FileExistsError):
        _make_directories(str(tmp_path / "logs"))
