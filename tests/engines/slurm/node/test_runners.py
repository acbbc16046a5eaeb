"""Runners on a node's disk: what nobody uses goes, what somebody uses stays."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import time
from pathlib import Path

import pytest

from trainshed.engines.slurm.node import boot
from trainshed.engines.slurm.node.runners import UNUSED_SECONDS, drop_unused


def runner(above: Path, name: str, age: float = 0.0) -> Path:
    place = above / name
    (place / "trainshed").mkdir(parents=True)
    (place / "trainshed" / "__init__.py").touch()
    os.utime(place, (time.time() - age,) * 2)
    return place


def test_what_nobody_has_begun_with_for_long_goes(tmp_path: Path) -> None:
    old, new = runner(tmp_path, "old", 2 * UNUSED_SECONDS), runner(tmp_path, "new")
    begun = runner(tmp_path, ".begun", 2 * UNUSED_SECONDS)
    drop_unused(tmp_path)
    assert not old.exists() and not begun.exists()
    assert list(tmp_path.iterdir()) == [new]


def test_what_somebody_uses_stays_until_its_process_ends(tmp_path: Path) -> None:
    used, is_old = runner(tmp_path, "used"), (time.time() - 2 * UNUSED_SECONDS,) * 2
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        try:
            ours.close()
            theirs.send(b"y" if boot._held(used) else b"n")
            theirs.recv(1)
        finally:
            os._exit(0)
    theirs.close()
    assert ours.recv(1) == b"y"
    os.utime(used, is_old)
    drop_unused(tmp_path)
    assert (used / "trainshed" / "__init__.py").exists()
    ours.close()
    os.waitpid(child, 0)
    drop_unused(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_who_begins_marks_it_and_notices_that_it_was_removed_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = runner(tmp_path, "place", 2 * UNUSED_SECONDS)
    assert boot._held(place)
    assert time.time() - place.stat().st_mtime < UNUSED_SECONDS
    assert not boot._held(tmp_path / "absent")
    flock = fcntl.flock

    def too_late(descriptor: int, how: int) -> None:
        # Somebody else had the lock, and removed it, and it was fetched again.
        shutil.rmtree(place)
        runner(tmp_path, "place")
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", too_late)
    assert not boot._held(place)
