"""Adding engines to a home and taking them away (``trainshed engine``), from the service's machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType

from trainshed.engines.kind import EngineKind, Making
from trainshed.engines.kinds import Engines, check, kind_of, kinds
from trainshed.resources.engines import DEFAULT_ENGINE, FILE_NAME, EngineDescription, InvalidEngines, write_engines
from trainshed.service_home import load_engine_descriptions, prepare_home
from trainshed.store import clusters
from trainshed.store.database import Database
from trainshed.store.errors import StoreError

__all__ = [
    "InvalidEngines",
    "StoreError",
    "add_engine",
    "bootstrap_of",
    "engine_kind",
    "engine_kinds",
    "list_engines",
    "remove_engine",
]


def engine_kinds() -> tuple[str, ...]:
    """Kinds of engines that can be added."""
    return kinds()


def engine_kind(name: str) -> EngineKind:
    """What a kind tells of itself. Raises InvalidEngines."""
    return kind_of(name)


def bootstrap_of(name: str) -> ModuleType:
    """What sets engines of a kind up on hosts. Raises InvalidEngines."""
    if module := kind_of(name).bootstrap:
        return import_module(module)
    able = ", ".join(kind for kind in kinds() if kind_of(kind).bootstrap)
    raise InvalidEngines(f"an engine of kind {name} cannot be set up from here; those that can: {able}")


def list_engines(home: Path) -> tuple[EngineDescription, ...]:
    """The engines of a home, its own first. Raises InvalidEngines."""
    return (EngineDescription(DEFAULT_ENGINE, DEFAULT_ENGINE, {}), *load_engine_descriptions(home))


def add_engine(home: Path, kind: str, name: str, settings: Mapping[str, str]) -> None:
    """Add an engine, or give it other settings, for the next start of the service. Raises InvalidEngines."""
    engine = EngineDescription(name, kind, dict(settings))
    check(engine)
    known = load_engine_descriptions(home)
    former = next((other for other in known if other.name == name), None)
    if former is not None and former.kind != kind:
        raise InvalidEngines(f"there is an engine {name!r} of kind {former.kind} already; take another name")
    changed = tuple(engine if other.name == name else other for other in known) if former else (*known, engine)
    # What contradicts itself is found before it is written, rather than by the next start of the service.
    Engines(changed).make(home)
    if (admit := kind_of(kind).admit) is not None:
        admit(Making(name, home, engine.settings, None))
    prepare_home(home)
    _write(home, changed)


def remove_engine(home: Path, name: str, database_url: str | None = None) -> None:
    """Forget an engine that no cluster uses. Raises InvalidEngines, StoreError."""
    known = load_engine_descriptions(home)
    if name == DEFAULT_ENGINE:
        raise InvalidEngines(f"{DEFAULT_ENGINE!r} is the service's own engine and cannot be removed")
    if name not in [engine.name for engine in known]:
        there = ", ".join(engine.name for engine in known) or "none"
        raise InvalidEngines(f"there is no engine {name!r}; added were: {there}")
    url = database_url or f"sqlite:///{home / 'trainshed.db'}"
    if database_url is not None or (home / "trainshed.db").exists():
        db = Database.open(url)
        try:
            users = db.read_sync(lambda tx: [cluster.key for cluster in clusters.all(tx) if cluster.engine == name])
        finally:
            db.close_sync()
        if users:
            named = ", ".join("/".join(key.split("/")[-2:]) for key in users)
            raise InvalidEngines(f"clusters use engine {name!r}: {named}. Delete them first: trainshed cluster delete")
    _write(home, tuple(engine for engine in known if engine.name != name))


def _write(home: Path, engines: tuple[EngineDescription, ...]) -> None:
    """Atomically, readable by the owner only: settings may name what others need not know."""
    path = home / FILE_NAME
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
        out.write(write_engines(engines))
    temporary.replace(path)
