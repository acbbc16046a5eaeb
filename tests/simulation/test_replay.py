"""The same seed tells the same story: in one process, in another, and with SQLAlchemy instead of the shortcut."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.simulation.store import store
from tests.simulation.world import World

SEEDS = (3, 14, 15)


def test_a_seed_tells_the_same_story_again() -> None:
    first = [World(seed).run() for seed in SEEDS]
    again = [World(seed).run() for seed in SEEDS]
    assert [story.lines() for story in first] == [story.lines() for story in again]
    assert [story.hash for story in first] == [story.hash for story in again]
    assert len({story.hash for story in first}) == len(SEEDS)


@pytest.mark.slow
def test_another_process_tells_the_same_story() -> None:
    """Nor does it matter in which order that process iterates over sets."""
    story = World(SEEDS[0]).run()
    command = [sys.executable, "-m", "tests.simulation", "--seed", str(SEEDS[0])]
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    told = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, timeout=60)
    assert f"story {story.hash}" in told.stdout


def test_the_shortcut_through_the_driver_changes_nothing() -> None:
    quick = [World(seed).run().hash for seed in SEEDS]
    shortcut = store().connection
    try:
        store().plainly()
        assert [World(seed).run().hash for seed in SEEDS] == quick
    finally:
        store().connection = shortcut
