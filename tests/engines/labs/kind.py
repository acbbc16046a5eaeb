"""What the conformance suite must know of an engine's laboratory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.engines.lab import Lab

Body = Callable[[Lab], Awaitable[None]]


@dataclass(frozen=True)
class LabKind:
    """An engine, set up in one way."""

    name: str
    #: Runs a coroutine with a started engine of this home, and leaves nothing behind. What many tests share is a
    #: session's fixture (``request.getfixturevalue``). Skips, with the reason, where the engine cannot be had.
    run: Callable[[Body, Path, pytest.FixtureRequest], None]
    #: The same for what kills the engine itself, where ``run`` shares it with other tests.
    run_alone: Callable[[Body, Path, pytest.FixtureRequest], None] | None = None
    #: Whether the engine queues by itself (``EngineTraits.queues``).
    queues: bool = False
    #: Promises, by name, that mean nothing there, or are tested in another place, and why.
    exempt: Mapping[str, str] = field(default_factory=dict)
