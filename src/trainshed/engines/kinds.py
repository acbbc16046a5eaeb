"""The kinds of engines that can be added to a service, and the engines that were added to it.

A kind is a module with a ``KIND`` (``engines.kind.EngineKind``), named here. It is imported when somebody uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from trainshed.engines.checks import Check
from trainshed.engines.kind import EngineKind, Making
from trainshed.engines.local.engine import LocalEngine
from trainshed.engines.protocol import Engine, EngineTraits, Leader
from trainshed.engines.several import SeveralEngines
from trainshed.resources.engines import (
    DEFAULT_ENGINE,
    EngineDescription,
    InvalidEngines,
    Option,
    check_name,
    problems_of,
)

#: Where each kind is. One that is not named here cannot be added.
_MODULES: dict[str, str] = {"ray": "trainshed.engines.ray.kind", "slurm": "trainshed.engines.slurm.kind"}


def kinds() -> tuple[str, ...]:
    """Their names."""
    return tuple(_MODULES)


def kind_of(name: str) -> EngineKind:
    """A kind by its name, whether or not what it needs is installed. Raises InvalidEngines naming those there are."""
    module = _MODULES.get(name)
    if module is None:
        known = ", ".join(_MODULES) or "none"
        raise InvalidEngines(f"there is no kind of engine called {name!r}; there are: {known}")
    kind: EngineKind = import_module(module).KIND
    return kind


def check(engine: EngineDescription) -> EngineKind:
    """The kind of an engine that can be made. Raises InvalidEngines with all that is wrong with the description."""
    check_name(engine.name)
    kind = kind_of(engine.kind)
    if problems := problems_of(engine.settings, kind.settings):
        told = "; ".join(f"{name} {problem}" for name, problem in problems)
        raise InvalidEngines(f"the settings of engine {engine.name!r} are not right: {told}")
    missing = [package for package in kind.packages if find_spec(package) is None]
    if missing:
        raise InvalidEngines(
            f"an engine of kind {kind.name} needs the Python package {missing[0]}, which is not installed. "
            f"Install it: pip install 'trainshed[{kind.extra}]'"
        )
    return kind


@dataclass(frozen=True, slots=True)
class Engines:
    """The engines of a service beside its own, checked."""

    described: tuple[EngineDescription, ...] = ()

    @property
    def traits(self) -> Mapping[str, EngineTraits]:
        """What each engine does by itself, the service's own included."""
        return {DEFAULT_ENGINE: LocalEngine.traits} | {
            engine.name: kind_of(engine.kind).traits for engine in self.described
        }

    @property
    def cluster_options(self) -> Mapping[str, tuple[Option, ...]]:
        """What a cluster may ask of each engine, the service's own included."""
        return {DEFAULT_ENGINE: ()} | {engine.name: kind_of(engine.kind).cluster_options for engine in self.described}

    def mount_root_of(self, home: Path) -> Callable[[str], str | None]:
        """Finds the directory on this machine that backs AZ_BATCHAI_MOUNT_ROOT of a cluster (by uid), also of one that
        is gone: the engine that made it has it.
        """
        made = [
            LocalEngine(home),
            *(check(engine).make(Making(engine.name, home, engine.settings, None)) for engine in self.described),
        ]

        def find(cluster_uid: str) -> str | None:
            roots = [root for engine in made if (root := engine.mount_root(cluster_uid)) is not None]
            return next((root for root in roots if Path(root).is_dir()), roots[0] if roots else None)

        return find

    def doctor(self, home: Path) -> list[Check]:
        """What is right and wrong with each that was added. Raises InvalidEngines."""
        found: list[Check] = []
        for engine in self.described:
            look = check(engine).doctor
            told = look(Making(engine.name, home, engine.settings, None)) if look is not None else ()
            found += [replace(one, name=f"{engine.name}: {one.name}") for one in told]
        return found

    def make(self, home: Path, leader: Leader | None = None) -> Engine:
        """All of them as one; the service's own alone where there are no others. Raises InvalidEngines."""
        own = LocalEngine(home, leader)
        if not self.described:
            return own
        others = [check(engine).make(Making(engine.name, home, engine.settings, leader)) for engine in self.described]
        return SeveralEngines([own, *others])
