"""A live service for each test, checked to leave nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.live_service import LiveService


@pytest.fixture
def service(tmp_path: Path) -> Iterator[LiveService]:
    """Started with an empty home; stopped with its nodes at the end of the test."""
    live = LiveService(tmp_path / "home").start()
    try:
        yield live
    finally:
        live.stop()
        assert live.marked() == []


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    """A service with a cluster ``c`` of two idle nodes, shared by the tests of a module."""
    live = LiveService(tmp_path_factory.mktemp("live") / "home").start()
    try:
        live.make_cluster()
        yield live
    finally:
        live.stop()
        assert live.marked() == []
