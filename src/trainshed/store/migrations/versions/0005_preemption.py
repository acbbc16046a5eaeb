"""Pre-emption: how often a job gave up its nodes, and the warning that an attempt gets before it is stopped."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("preemptions", sa.BigInteger, nullable=False, server_default=sa.text("0")))
    op.add_column("jobs", sa.Column("returned", sa.BigInteger, nullable=False, server_default=sa.text("0")))
    queued = sa.text("execution = 'queued' AND state <> 'deleting'")
    for name in ("ix_jobs_queue", "ix_jobs_lanes"):
        op.drop_index(name, "jobs")
    op.create_index(
        "ix_jobs_queue",
        "jobs",
        ["cluster_uid", sa.text("priority DESC"), sa.text("returned DESC"), "id"],
        sqlite_where=queued,
        postgresql_where=queued,
    )
    op.create_index(
        "ix_jobs_lanes",
        "jobs",
        ["cluster_uid", "priority", "returned", "submitted_by", "experiment_key", "id"],
        sqlite_where=queued,
        postgresql_where=queued,
    )
    op.add_column("attempts", sa.Column("stop_warning", sa.Text(), nullable=True))
