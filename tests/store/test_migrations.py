"""Migrations: from nothing to what ``tables`` says, once, whoever comes first."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from trainshed.store import tables
from trainshed.store.backend import backend_of
from trainshed.store.database import Database
from trainshed.store.errors import SchemaMismatch, StoreError, StoreUnavailable
from trainshed.store.migrate import MIGRATIONS, main, upgrade
from trainshed.store.schema import HEAD, revision_of

pytestmark = pytest.mark.slow

_POSTGRES_SHAPE = """
    SELECT 'column', table_name || '.' || column_name,
           concat_ws(' ', data_type, collation_name, is_nullable,
                     CASE WHEN column_default LIKE 'nextval%' THEN 'serial' END)
      FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'alembic_version'
    UNION ALL
    SELECT 'index', indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'alembic_version'
    UNION ALL
    SELECT 'constraint', conname, pg_get_constraintdef(oid) FROM pg_constraint
     WHERE connamespace = 'public'::regnamespace AND conrelid <> 0 AND conname NOT LIKE 'alembic%'
    ORDER BY 1, 2
"""


def _shape(tx: Connection) -> list[tuple[str, ...]]:
    """Tables with their columns in order, constraints and indexes, as the database itself describes them."""
    if tx.dialect.name == "postgresql":
        return [tuple(row) for row in tx.execute(text(_POSTGRES_SHAPE))]
    shape: list[tuple[str, ...]] = []
    names = (
        "SELECT name, type FROM sqlite_master WHERE type IN ('table', 'index') AND name NOT LIKE 'alembic%' ORDER BY 1"
    )
    for name, type_ in tx.execute(text(names)).all():
        if name.startswith("sqlite_"):
            continue
        if type_ == "index":
            sql = tx.execute(text("SELECT sql FROM sqlite_master WHERE name = :n"), {"n": name}).scalar_one()
            shape.append((name, " ".join(sql.split())))
            continue
        sql = tx.execute(text("SELECT sql FROM sqlite_master WHERE name = :n"), {"n": name}).scalar_one()
        shape.append((name, "AUTOINCREMENT" if "AUTOINCREMENT" in sql else ""))
        # Column definitions and constraints may be written in any order: compare them as sets of lines.
        # A column that a later migration added stands in the line of the one before it.
        body = re.sub(r", (?=\w+ (?:BIGINT|TEXT))", ",\n", sql[sql.index("(") + 1 : sql.rindex(")")])
        lines = sorted(" ".join(line.strip().rstrip(",").split()) for line in body.splitlines() if line.strip())
        shape += [(name, line) for line in lines]
        shape += [(name, *map(str, row)) for row in tx.execute(text(f"PRAGMA table_info({name})"))]
    return shape


def test_migrated_schema_is_the_one_of_tables(url: str, empty_url: str) -> None:
    migrated, made = backend_of(url).writer(), backend_of(empty_url).writer()
    try:
        made.begin()
        tables.metadata.create_all(made.connection)
        assert _shape(migrated.connection) == _shape(made.connection)
    finally:
        migrated.close()
        made.close()


def test_head_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


def test_migrates_an_empty_database_once(empty_url: str) -> None:
    backend = backend_of(empty_url)
    assert revision_of(backend) is None
    assert upgrade(backend) is True
    assert revision_of(backend) == HEAD
    assert upgrade(backend) is False


@pytest.mark.slow
def test_two_processes_may_migrate_at_once(empty_url: str) -> None:
    command = [sys.executable, "-m", "trainshed.store.migrate", "-"]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(empty_url)
        process.stdin.close()
    for process in processes:
        assert process.wait(60) == 0, process.stderr and process.stderr.read()
        assert process.stderr is not None
        process.stderr.close()
    assert revision_of(backend_of(empty_url)) == HEAD


@pytest.mark.slow
def test_open_migrates_without_loading_alembic(empty_url: str) -> None:
    program = (
        "import sys\n"
        "from trainshed.store.database import Database\n"
        "Database.open(sys.stdin.read()).close_sync()\n"
        "sys.exit('alembic' in sys.modules)\n"
    )
    child = subprocess.run([sys.executable, "-c", program], input=empty_url, text=True, timeout=60, check=False)
    assert child.returncode == 0
    assert revision_of(backend_of(empty_url)) == HEAD


def test_a_newer_schema_is_refused_and_left_alone(empty_url: str) -> None:
    backend = backend_of(empty_url)
    upgrade(backend)
    session = backend.writer()
    session.begin()
    session.connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    session.commit()
    session.close()
    with pytest.raises(SchemaMismatch, match="newer Trainshed"):
        Database.open(empty_url)
    assert revision_of(backend) == "9999"


def test_a_failed_migration_leaves_nothing_behind(empty_url: str) -> None:
    backend = backend_of(empty_url)
    session = backend.writer()
    session.begin()
    session.connection.execute(text("CREATE TABLE secrets (oops INTEGER)"))
    session.commit()
    session.close()
    with pytest.raises(Exception, match="secrets"):
        upgrade(backend)
    session = backend.reader()
    try:
        with pytest.raises(Exception, match="jobs"):
            session.connection.execute(text("SELECT * FROM jobs"))
    finally:
        session.close()


@pytest.mark.parametrize("url", ["nonsense", "sqlite://", "sqlite:///:memory:", "mysql://u@h/d"])
def test_other_urls_are_refused_with_the_way_out(url: str) -> None:
    with pytest.raises(StoreError, match=r"sqlite:///.*postgresql://"):
        Database.open(url)


def test_a_server_that_is_not_there_is_reported_without_the_password(tmp_path: object) -> None:
    with pytest.raises(StoreUnavailable) as caught:
        Database.open(f"postgresql://someone:hidden-word@/none?host={tmp_path}")
    assert "hidden-word" not in str(caught.value)


def test_the_command_line_says_how_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage" in capsys.readouterr().err
