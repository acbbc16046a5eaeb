"""What a kind of engine tells of itself: its settings, what a cluster may ask of it, and how it is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainshed.engines.checks import Check
from trainshed.engines.protocol import Engine, EngineTraits, Leader
from trainshed.resources.engines import Option


@dataclass(frozen=True, slots=True)
class Making:
    """What an engine is made from."""

    name: str
    #: The service's home.
    home: Path
    #: As an administrator gave them; checked.
    settings: Mapping[str, str]
    #: Under which lease it is spoken to; None for the only service of the home.
    leader: Leader | None


@dataclass(frozen=True, slots=True)
class EngineKind:
    """A kind of engine, such as ``slurm``."""

    name: str
    #: One line for people.
    summary: str
    traits: EngineTraits
    #: Of the engine (``trainshed engine add``).
    settings: tuple[Option, ...]
    #: Of a cluster on it (``engine.options`` of the cluster).
    cluster_options: tuple[Option, ...]
    #: Makes the engine, without speaking to it yet. Raises InvalidEngines where the settings contradict one another.
    make: Callable[[Making], Engine]
    #: Looks at an engine that was described so, and says what mends what it lacks; takes a few seconds at most.
    doctor: Callable[[Making], Sequence[Check]] | None = None
    #: Reads the files that the settings name, once, when an engine is added. Raises InvalidEngines.
    admit: Callable[[Making], None] | None = None
    #: Python packages that it needs beyond the service's own, and the extra that has them.
    packages: tuple[str, ...] = ()
    extra: str = ""
    #: Module whose ``Setup`` sets such an engine up on hosts (``trainshed engine bootstrap``); empty: nothing does.
    bootstrap: str = ""
