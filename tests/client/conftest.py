"""Fixtures: the stub service and a client on it, whose pauses between retries take no time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.client.stub_service import TOKEN, StubService, running_stub
from trainshed.client import Client, Connection
from trainshed.client import drivers as drivers_module


@pytest.fixture
def stub() -> Iterator[StubService]:
    with running_stub() as service:
        yield service


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that the client wanted to make, in seconds; none is made."""
    wanted: list[float] = []
    monkeypatch.setattr(drivers_module, "pause", wanted.append)
    return wanted


@pytest.fixture
def client(stub: StubService, pauses: list[float]) -> Iterator[Client]:
    with Client(connection=Connection(stub.url, TOKEN)) as made:
        yield made
