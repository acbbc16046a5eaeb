"""Settings of a Ray engine, and options of a cluster on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainshed.engines import kinds
from trainshed.engines.protocol import Leader
from trainshed.engines.ray.engine import RayEngine
from trainshed.engines.ray.settings import CLUSTER_OPTIONS, SETTINGS, RaySettings
from trainshed.resources.engines import EngineDescription, problems_of

LEAST = {"address": "10.0.0.4:6379", "directory": "/shared/trainshed"}


def test_the_kind_makes_an_engine_without_speaking_to_ray(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'trainshed[ray]'")
    described = kinds.Engines((EngineDescription("boxes", "ray", LEAST),))
    assert not described.traits["boxes"].queues
    made = kinds.check(described.described[0]).make(kinds.Making("boxes", tmp_path, LEAST, Leader("db", 1)))
    assert isinstance(made, RayEngine) and made.name == "boxes"
    assert made.mount_root("u") == "/shared/trainshed/clusters/u/mounts"


def test_all_of_them() -> None:
    given = {
        **LEAST,
        "scratch": "/local",
        "token_file": "/etc/ray/token",
        "autoscale": "yes",
        "share_user": "yes",
        "fence_seconds": "120",
    }
    assert problems_of(given, SETTINGS) == []
    assert RaySettings.of(given) == RaySettings(*LEAST.values(), "/local", "/etc/ray/token", True, 120.0, True)
    assert RaySettings.of(LEAST) == RaySettings(*LEAST.values())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("address", "head"),
        ("address", "head:0"),
        ("address", ":6379"),
        ("directory", "shared"),
        ("scratch", "local"),
        ("autoscale", "true"),
        ("share_user", "maybe"),
        ("fence_seconds", "59"),
        ("fence_seconds", "nan"),
        ("fence_seconds", "soon"),
        ("port", "6379"),
    ],
)
def test_what_is_wrong_is_named(name: str, value: str) -> None:
    assert [problem[0] for problem in problems_of({**LEAST, name: value}, SETTINGS)] == [name]


def test_what_is_missing_is_named() -> None:
    assert [problem[0] for problem in problems_of({}, SETTINGS)] == ["address", "directory"]


def test_options_of_a_cluster() -> None:
    assert problems_of({"resource": "train", "labels": "zone=eu"}, CLUSTER_OPTIONS) == []
    assert [problem[0] for problem in problems_of({"labels": "zone", "partition": "gpu"}, CLUSTER_OPTIONS)] == [
        "partition",
        "labels",
    ]
