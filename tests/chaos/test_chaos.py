"""A short chaos on each engine; ``python -m tests.chaos --engine slurm --minutes 5`` is the long run."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.chaos.chaos import Chaos
from tests.chaos.grounds import GROUNDS

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]

#: Seconds of each. The others are slower to set up, and their own ways of noticing a death take their time.
SECONDS = {"local": 20.0, "slurm": 15.0, "ray": 12.0}


@pytest.mark.parametrize("engine", sorted(GROUNDS))
def test_jobs_end_as_they_should_whatever_is_killed(engine: str, tmp_path: Path) -> None:
    if why := GROUNDS[engine].why_not():
        pytest.skip(why)
    seed = int(os.environ.get("TRAINSHED_CHAOS_SEED") or random.randrange(1 << 32))
    folder = tmp_path / "shared"
    folder.mkdir()
    ground = GROUNDS[engine](tmp_path)
    with ground.running() as service:
        ends = Chaos(ground, service, folder, seed, print).run(SECONDS[engine])
    assert ends["succeeded"], "no job came to a good end: the test kills too often to show anything"
