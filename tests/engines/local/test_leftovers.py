"""Ending what a dead process left behind."""

from __future__ import annotations

import os
import subprocess

from trainshed.engines.local.leftovers import MARK_VARIABLE, children, end_leftovers, kill_trees, marked

#: A shell whose child drops its environment and ignores SIGTERM; it says when both are there.
_FAMILY = "trap '' TERM; env -i bash -c 'trap \"\" TERM; echo there; exec sleep 1000' & wait"


def family(mark: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        ["bash", "-c", _FAMILY], env={**os.environ, MARK_VARIABLE: mark}, stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"there\n"
    return process


def test_all_below_a_marked_process_ends_with_it() -> None:
    mark = f"test-{os.getpid()}-a"
    process = family(mark)
    assert process.stdout is not None
    assert marked(mark) == [process.pid]
    # A zombie is found no more: it has no environment. Its parent, this test, reaps it afterwards.
    assert end_leftovers(mark) == []
    assert marked(mark) == []
    # The pipe's end is the proof that the child without a mark is dead as well.
    assert process.stdout.read() == b""
    assert process.wait(10) == -9
    process.stdout.close()


def test_others_are_left_alone() -> None:
    process = family(f"test-{os.getpid()}-b")
    try:
        assert end_leftovers(f"test-{os.getpid()}-c") == []
        assert process.poll() is None
        assert process.pid in children()
    finally:
        kill_trees({process.pid})
        process.communicate(timeout=10)
    assert process.pid not in children()
