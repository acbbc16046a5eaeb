"""Which schema this version needs, which one a database has, and how the one becomes the other.

Migrations run in a process of their own, so that the service does not carry Alembic in its memory.
"""

from __future__ import annotations

import subprocess
import sys

from sqlalchemy import inspect, text

from trainshed.store.backend import Backend
from trainshed.store.errors import SchemaMismatch

#: The newest migration's revision (a test compares it with the migrations folder).
HEAD = "0008"

_TIMEOUT = 600.0


def revision_of(backend: Backend) -> str | None:
    """The revision that the database is at, or None when it is empty."""
    session = backend.reader()
    try:
        if not inspect(session.connection).has_table("alembic_version"):
            return None
        revision: str | None = session.connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        return revision
    finally:
        session.close()


def bring_up_to_date(backend: Backend) -> None:
    """Migrate the database if it is not at ``HEAD``. Raises SchemaMismatch when that fails."""
    if revision_of(backend) == HEAD:
        return
    # The URL may hold a password, so it goes by the standard input rather than the command line.
    child = subprocess.run(
        [sys.executable, "-m", "trainshed.store.migrate", "-"],
        input=backend.url,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT,
        check=False,
    )
    if child.returncode != 0:
        raise SchemaMismatch(child.stderr.strip() or f"migrating the database ended with {child.returncode}")
