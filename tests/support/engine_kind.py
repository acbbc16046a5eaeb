"""A test double: a kind of engine whose engines are simulated."""

from __future__ import annotations

from tests.support.simulated_engine import SimulatedEngine
from trainshed.engines.checks import Check
from trainshed.engines.kind import EngineKind, Making
from trainshed.engines.protocol import Engine, EngineTraits
from trainshed.resources.engines import InvalidEngines, Option


def _make(making: Making) -> Engine:
    if making.settings.get("size") == "contradictory":
        raise InvalidEngines("size contradicts itself")
    return SimulatedEngine(making.name)


def _number(value: str) -> str | None:
    return None if value.isdigit() else "it must be a number"


KIND = EngineKind(
    name="toy",
    summary="for tests",
    traits=EngineTraits(queues=True),
    settings=(Option("directory", "where files are", required=True), Option("size", "how large it is")),
    cluster_options=(Option("partition", "which part of it"), Option("share", "how much of it", check=_number)),
    make=_make,
    doctor=lambda making: [Check("directory", True, making.settings["directory"])],
)
