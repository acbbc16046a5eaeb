"""``python -m trainshed.store.migrate URL``: bring a database to the newest schema (``-`` reads the URL from stdin).

The whole migration is one transaction with the right to write, so that of two processes that start at once one migrates
and the other finds it done, and a migration that fails leaves the database as it was.
"""

from __future__ import annotations

import sys
from pathlib import Path

from trainshed.store.backend import Backend, backend_of
from trainshed.store.errors import SchemaMismatch, StoreError
from trainshed.store.schema import HEAD, revision_of

MIGRATIONS = Path(__file__).parent / "migrations"


def upgrade(backend: Backend) -> bool:
    """Migrate to ``HEAD``; returns whether there was anything to do. Raises SchemaMismatch."""
    if revision_of(backend) == HEAD:
        return False
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    session = backend.writer()
    try:
        session.begin()
        config.attributes["connection"] = session.connection
        try:
            command.upgrade(config, "head")
        except CommandError as exc:
            session.roll_back()
            raise SchemaMismatch(
                f"the database is at a revision that this version does not know ({exc}): "
                "it was used by a newer Trainshed; start that version, or restore a backup of before the upgrade"
            ) from exc
        session.commit()
    finally:
        session.close()
    return True


def main(arguments: list[str]) -> int:
    """Entry point; returns the exit code."""
    if len(arguments) != 1:
        print("usage: python -m trainshed.store.migrate URL|-", file=sys.stderr)
        return 2
    url = sys.stdin.read().strip() if arguments[0] == "-" else arguments[0]
    try:
        upgrade(backend_of(url))
    except StoreError as exc:
        print(exc, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
