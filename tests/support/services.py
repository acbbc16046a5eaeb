"""Fixtures for tests on the real service: fresh, or shared by a worker's whole session. Neither leaves anything."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from tests.support.leftovers import look_until_nothing
from tests.support.live_service import LiveService
from tests.support.program import Program


@contextlib.contextmanager
def running(
    home: Path, *, arguments: Sequence[str] = (), more: Mapping[str, str] | None = None, warm: bool | None = None
) -> Iterator[LiveService]:
    """A service on the home, stopped at the end with its nodes; fails when anything of it is left.

    ``arguments``: more of ``trainshed serve``; ``more``: variables of its environment; ``warm``: see LiveService.
    """
    live = LiveService(home, *arguments, more=more, warm=warm)
    try:
        yield live.start()
    finally:
        live.stop()
    left = look_until_nothing(home)
    assert not left, f"the service left {left}"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[LiveService]:
    """A service of this test's own, without any resource."""
    with running(tmp_path / "home") as live:
        yield live


@pytest.fixture(scope="session")
def shared_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    """One service for all tests of this process, with a cluster ``c`` of two idle nodes in workspace ``default``.

    Its tests leave the cluster idle and give their jobs names of their own.
    """
    with running(tmp_path_factory.mktemp("shared") / "home") as live:
        live.make_cluster(2)
        yield live


@pytest.fixture
def trainshed(shared_service: LiveService, tmp_path: Path) -> Program:
    """The command line on the shared service, in an empty folder."""
    folder = tmp_path / "folder"
    folder.mkdir()
    return Program(shared_service.home, folder)
