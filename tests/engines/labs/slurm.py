"""Slurm: a whole site of four nodes on this machine, one for the session; with a shared directory, and without."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engines.labs.kind import Body, LabKind
from tests.engines.slurm.laboratory import run_afar, run_on


def _run(body: Body, home: Path, request: pytest.FixtureRequest) -> None:
    run_on(request.getfixturevalue("slurm_site"), home, body)


def _run_afar(body: Body, home: Path, request: pytest.FixtureRequest) -> None:
    run_afar(request.getfixturevalue("slurm_site"), body)


KINDS = (
    LabKind("slurm", _run, queues=True),
    LabKind("slurm-afar", _run_afar, queues=True),
)
