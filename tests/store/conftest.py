"""Every test of the store runs on SQLite and on PostgreSQL, each time on a fresh database at the newest schema."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.postgres import PostgresServer, postgres_server
from trainshed.store.backend import backend_of
from trainshed.store.database import Database
from trainshed.store.migrate import upgrade


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A private server for the whole run."""
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def migrated_postgres(postgres: PostgresServer) -> str:
    """Name of a database at the newest schema, to be copied."""
    name = postgres.create()
    upgrade(backend_of(postgres.url(name)))
    return name


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file at the newest schema, to be copied."""
    path = tmp_path_factory.mktemp("migrated") / "trainshed.db"
    upgrade(backend_of(f"sqlite:///{path}"))
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which database the test runs on."""
    return str(request.param)


@pytest.fixture
def url(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of the test's own, at the newest schema."""
    if kind == "sqlite":
        path = tmp_path / "trainshed.db"
        shutil.copy(request.getfixturevalue("migrated_sqlite"), path)
        return f"sqlite:///{path}"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.url(server.create(request.getfixturevalue("migrated_postgres")))


@pytest.fixture
def empty_url(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without any table."""
    if kind == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.db'}"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.url(server.create())


@pytest.fixture
def db(url: str) -> Iterator[Database]:
    """An open database."""
    database = Database.open(url)
    yield database
    database.close_sync()
