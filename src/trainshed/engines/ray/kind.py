"""Ray as a kind of engine (``trainshed engine add ray``)."""

from __future__ import annotations

from trainshed.engines.checks import Check
from trainshed.engines.kind import EngineKind, Making
from trainshed.engines.ray.doctor import checks
from trainshed.engines.ray.engine import RayEngine
from trainshed.engines.ray.settings import CLUSTER_OPTIONS, SETTINGS, RaySettings


def _make(making: Making) -> RayEngine:
    return RayEngine(making.name, RaySettings.of(making.settings), making.home, making.leader)


def _doctor(making: Making) -> list[Check]:
    return checks(making.name, RaySettings.of(making.settings))


KIND = EngineKind(
    name="ray",
    summary="machines that Ray joined, or that its autoscaler starts in a cloud",
    traits=RayEngine.traits,
    settings=SETTINGS,
    cluster_options=CLUSTER_OPTIONS,
    make=_make,
    doctor=_doctor,
    packages=("ray",),
    extra="ray",
)
