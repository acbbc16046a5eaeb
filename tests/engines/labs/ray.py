"""The Ray engine: a head and several nodes with loopback addresses, the same for a whole session."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engines.labs.kind import Body, LabKind
from tests.engines.ray.fixtures import run_on_ray


def _run(body: Body, home: Path, request: pytest.FixtureRequest) -> None:
    run_on_ray(request.getfixturevalue("ray_nodes"), home, body)


KINDS = (LabKind("ray", _run),)
