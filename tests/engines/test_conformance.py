"""The local engine keeps every promise of the protocol: with namespaces, without, and with jobs of another user."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engines.conformance import PROMISES, Promise
from tests.engines.conftest import run_in_lab
from trainshed.engines.local.job_users import hindrance
from trainshed.resources.users import UserRange


@pytest.mark.slow
@pytest.mark.parametrize("isolation", ["namespaces", "none", "strangers"])
@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
def test_promise(promise: Promise, isolation: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINSHED_ISOLATION", "none" if isolation == "none" else "")
    users = UserRange(1900001000, 1900001009)
    if isolation == "strangers" and (why := hindrance(users)):
        pytest.skip(f"jobs cannot have a user of their own here: {why}")
    run_in_lab(home, promise, users.user(1) if isolation == "strangers" else None)
