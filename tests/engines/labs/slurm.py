"""Slurm: a whole site of four nodes on this machine, one for the session; with a shared directory, and without."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engines.deaths import what_was_lost_with_a_node_is_gone_before_it_runs_again
from tests.engines.labs.kind import Body, LabKind
from tests.engines.slurm.laboratory import run_afar, run_on

_TESTED_HARDER = "tests/engines/slurm/test_afar.py has it, where a node is cut off too; it takes half a minute"


def _run(body: Body, home: Path, request: pytest.FixtureRequest) -> None:
    run_on(request.getfixturevalue("slurm_site"), home, body)


def _run_afar(body: Body, home: Path, request: pytest.FixtureRequest) -> None:
    run_afar(request.getfixturevalue("slurm_site"), body)


KINDS = (
    LabKind("slurm", _run, queues=True),
    LabKind(
        "slurm-afar",
        _run_afar,
        queues=True,
        exempt={what_was_lost_with_a_node_is_gone_before_it_runs_again.__name__: _TESTED_HARDER},
    ),
)
