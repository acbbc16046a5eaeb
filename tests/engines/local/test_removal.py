"""Deleting a node's directory never deletes what is mounted in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from trainshed.engines.local.removal import delete, mounted_below

_MOUNT_AND_DELETE = """
import sys
from pathlib import Path
from trainshed.engines.local.removal import delete
from trainshed.runner import linux
folder, data = map(Path, sys.argv[1:])
linux.unshare(linux.CLONE_NEWNS)
linux.mount("none", "/", None, linux.MS_REC | linux.MS_PRIVATE)
linux.mount(str(data), str(folder / "in" / "mnt"), None, linux.MS_BIND)
assert (folder / "in" / "mnt" / "file").exists()
delete(folder)
assert not folder.exists()
"""


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").touch()
    folder = tmp_path / "node"
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "link").symlink_to(tmp_path / "data")
    delete(folder)
    assert not folder.exists()
    assert (tmp_path / "data" / "file").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_mounted_data_survives(tmp_path: Path) -> None:
    folder, data = tmp_path / "node", tmp_path / "data with space"
    (folder / "in" / "mnt").mkdir(parents=True)
    data.mkdir()
    (data / "file").touch()
    subprocess.run([sys.executable, "-c", _MOUNT_AND_DELETE, str(folder), str(data)], check=True, timeout=30)
    assert (data / "file").exists()


def test_mount_points_are_known() -> None:
    assert "/proc" in mounted_below(Path("/proc"))
    assert mounted_below(Path("/proc/self/fd")) == []
