"""One Slurm for all tests of a session, and a laboratory on it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from tests.engines.lab import Lab
from tests.engines.slurm.laboratory import run_on
from tests.engines.slurm.slurm_site import Site

#: Runs a test's coroutine with an engine on the session's site.
OnSite = Callable[[Callable[[Lab], Awaitable[None]]], None]


@pytest.fixture
def on_site(slurm_site: Site, tmp_path: Path) -> OnSite:
    """Runs a coroutine with a started engine; afterwards the site has no jobs."""
    return partial(run_on, slurm_site, tmp_path)
