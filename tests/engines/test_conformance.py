"""The local engine keeps every promise of the protocol, with namespaces and without."""

from __future__ import annotations

import pytest

from tests.engines.conformance import PROMISES, Promise
from tests.engines.conftest import InLab


@pytest.mark.slow
@pytest.mark.parametrize("isolation", ["namespaces", "none"])
@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
def test_promise(promise: Promise, isolation: str, in_lab: InLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINSHED_ISOLATION", "none" if isolation == "none" else "")
    in_lab(promise)
