"""Alembic's way in: runs the migrations on the connection, and in the transaction, that ``migrate`` opened."""

from __future__ import annotations

from alembic import context

connection = context.config.attributes["connection"]
if not connection.in_transaction():
    connection.begin()
context.configure(connection=connection)
context.run_migrations()
