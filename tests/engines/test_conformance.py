"""Every engine keeps every promise of the protocol."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engines.conformance import OF_CHOSEN_NODES, OF_QUEUES, ON_ANY_NODES, PROMISES, Promise
from tests.engines.deaths import DEATHS, ENDINGS
from tests.engines.labs import kinds
from tests.engines.labs.kind import LabKind


def _promises(kind: LabKind) -> list[Promise]:
    every = (*PROMISES, *(OF_QUEUES if kind.queues else OF_CHOSEN_NODES), *DEATHS, *ENDINGS)
    # One after the other, those that can have each other's nodes.
    return sorted(every, key=lambda promise: promise not in ON_ANY_NODES)


def _cases() -> list[pytest.ParameterSet]:
    return [
        pytest.param(kind, promise, id=f"{kind.name}-{promise.__name__}")
        for kind in kinds()
        for promise in _promises(kind)
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "promise"), _cases())
def test_promise(kind: LabKind, promise: Promise, home: Path, request: pytest.FixtureRequest) -> None:
    if why := kind.exempt.get(promise.__name__):
        pytest.skip(f"{kind.name}: {why}")
    run = kind.run_alone if promise in ENDINGS and kind.run_alone is not None else kind.run
    run(promise, home, request)
