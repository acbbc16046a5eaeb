"""A short chaos; ``python -m tests.chaos --minutes 5`` is the long run."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.chaos.chaos import Chaos
from tests.support.services import running

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(240)]

SECONDS = 25.0


def test_jobs_end_as_they_should_whatever_is_killed(tmp_path: Path) -> None:
    seed = int(os.environ.get("TRAINSHED_CHAOS_SEED") or random.randrange(1 << 32))
    folder = tmp_path / "shared"
    folder.mkdir()
    with running(tmp_path / "home", arguments=("--node-retry-seconds", "2")) as service:
        ends = Chaos(service, folder, seed, print).run(SECONDS)
    assert ends["succeeded"], "no job came to a good end: the test kills too often to show anything"
