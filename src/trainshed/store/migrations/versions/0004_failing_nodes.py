"""What is known of nodes that fail: attempts lost on them, and how far a cluster is with replacing them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("clusters", sa.Column("recovery", sa.Text(), nullable=True))
    op.add_column("nodes", sa.Column("losses", sa.Text(), nullable=True))
    lost = sa.text("state = 'lost'")
    op.create_index(
        "ix_attempts_lost", "attempts", ["cluster_uid", "ended_at"], sqlite_where=lost, postgresql_where=lost
    )
