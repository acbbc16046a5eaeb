"""A queue that people trust: rules of workspaces, what everybody used, and whose jobs wait."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

Key = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("workspaces", sa.Column("scheduling", sa.Text, nullable=True))
    queued = sa.text("execution = 'queued' AND state <> 'deleting'")
    op.create_index(
        "ix_jobs_lanes",
        "jobs",
        ["cluster_uid", "priority", "submitted_by", "experiment_key", "id"],
        sqlite_where=queued,
        postgresql_where=queued,
    )
    op.create_table(
        "usage",
        sa.Column("workspace_key", Key, nullable=False),
        sa.Column("hour", sa.BigInteger, nullable=False),
        sa.Column("user_id", Key, nullable=False),
        sa.Column("experiment_key", Key, nullable=False),
        sa.Column("vm_size", Key, nullable=False),
        sa.Column("vm_priority", Key, nullable=False),
        sa.Column("node_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint(
            "workspace_key", "hour", "user_id", "experiment_key", "vm_size", "vm_priority", name="pk_usage"
        ),
    )
