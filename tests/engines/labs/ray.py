"""The Ray engine: a head and several nodes, and an engine on them that all tests use in turn."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engines.conformance import ON_ANY_NODES
from tests.engines.labs.kind import Body, LabKind
from tests.engines.ray.cluster import RayNodes
from tests.engines.ray.fixtures import SharedLab, run_on_ray


def _run(body: Body, home: Path, request: pytest.FixtureRequest) -> None:
    lab: SharedLab = request.getfixturevalue("ray_lab")
    lab.run(body, keeps=body in ON_ANY_NODES)


def _run_alone(body: Body, home: Path, request: pytest.FixtureRequest) -> None:
    nodes: RayNodes = request.getfixturevalue("own_nodes")
    nodes.add_node()
    run_on_ray(nodes, home, body)


KINDS = (LabKind("ray", _run, _run_alone),)
