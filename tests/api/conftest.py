"""A fresh service for each test."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.service import Service
from trainshed.store.backend import backend_of
from trainshed.store.migrate import upgrade


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file at the newest schema, to be copied."""
    path = tmp_path_factory.mktemp("api") / "trainshed.db"
    upgrade(backend_of(f"sqlite:///{path}"))
    return path


@pytest.fixture
def service(migrated: Path, tmp_path: Path) -> Iterator[Service]:
    """The API on an empty database."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    shutil.copy(migrated, home / "trainshed.db")
    with asyncio.Runner() as runner:
        made = Service(home, home / "trainshed.db", runner)
        yield made
        made.close()


@pytest.fixture
def shed(service: Service) -> Service:
    """The API with workspace ``ws``, experiment ``exp`` and cluster ``c``."""
    service.make_parents()
    return service
