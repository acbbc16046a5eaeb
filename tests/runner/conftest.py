"""Both kinds of isolation, and a home directory that is the test's own."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainshed.runner import isolation, main


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(main, "_why_not", None)


@pytest.fixture(params=["namespaces", "none"])
def isolation_kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test in a PID namespace and without."""
    if request.param == "none":
        monkeypatch.setenv(isolation.ISOLATION_VARIABLE, "none")
    elif why_not := isolation.permitted("node-0"):
        pytest.skip(f"no namespaces here: {why_not}")
    return str(request.param)


@pytest.fixture
def namespaces() -> None:
    """The test needs namespaces."""
    if why_not := isolation.permitted("node-0"):
        pytest.skip(f"no namespaces here: {why_not}")


@pytest.fixture
def port() -> Iterator[int]:
    """A port that is free at the addresses of the test's nodes."""
    with socket.socket() as probe:
        probe.bind(("127.0.77.4", 0))
        number = probe.getsockname()[1]
    yield number
