"""Every test of the store runs on SQLite and on PostgreSQL, each time on an empty database at the newest schema."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.postgres import PostgresServer, postgres_server
from trainshed.store.backend import backend_of
from trainshed.store.database import Database
from trainshed.store.migrate import upgrade
from trainshed.store.tables import metadata


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A private server for the whole run."""
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def migrated_postgres(postgres: PostgresServer) -> str:
    """URL of a database at the newest schema, to be emptied for each test (making one takes a quarter of a second)."""
    url = postgres.url(postgres.create())
    upgrade(backend_of(url))
    return url


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file at the newest schema, to be copied."""
    path = tmp_path_factory.mktemp("migrated") / "trainshed.db"
    upgrade(backend_of(f"sqlite:///{path}"))
    return path


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def kind(request: pytest.FixtureRequest) -> str:
    """Which database the test runs on."""
    return str(request.param)


@pytest.fixture
def url(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database at the newest schema without a row. A test that changes its schema takes ``empty_url`` instead."""
    if kind == "sqlite":
        path = tmp_path / "trainshed.db"
        shutil.copy(request.getfixturevalue("migrated_sqlite"), path)
        return f"sqlite:///{path}"
    url: str = request.getfixturevalue("migrated_postgres")
    session = backend_of(url).writer()
    session.begin()
    for table in reversed(metadata.sorted_tables):
        session.connection.execute(table.delete())
    session.commit()
    session.close()
    return url


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
