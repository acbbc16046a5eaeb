"""Engines that queue by themselves: jobs that were handed over to one, and why their attempts wait there."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_QUEUED = "execution = 'queued' AND state <> 'deleting' AND blocked = 0 AND handed_over = 0"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("handed_over", sa.BigInteger, nullable=False, server_default=sa.text("0")))
    op.add_column("attempts", sa.Column("waiting", sa.Text, nullable=True))
    op.add_column("attempts", sa.Column("began_at", sa.BigInteger, nullable=True))
    for name in ("ix_jobs_queue", "ix_jobs_lanes", "ix_jobs_delayed"):
        op.drop_index(name, "jobs")
    _index("ix_jobs_queue", ["cluster_uid", sa.text("priority DESC"), sa.text("returned DESC"), "id"], _QUEUED)
    _index("ix_jobs_lanes", ["cluster_uid", "priority", "returned", "submitted_by", "experiment_key", "id"], _QUEUED)
    _index("ix_jobs_delayed", ["not_before"], f"{_QUEUED} AND not_before IS NOT NULL")
    _index("ix_jobs_handed_over", ["cluster_uid", "id"], "execution = 'queued' AND handed_over = 1")


def _index(name: str, columns: list[str | sa.TextClause], condition: str) -> None:
    where = sa.text(condition)
    op.create_index(name, "jobs", columns, sqlite_where=where, postgresql_where=where)
