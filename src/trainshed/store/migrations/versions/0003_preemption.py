"""Pre-emption: how often a job gave up its nodes, and the warning that an attempt gets before it is stopped."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("preemptions", sa.BigInteger, nullable=False, server_default=sa.text("0")))
    op.add_column("attempts", sa.Column("stop_warning", sa.Text(), nullable=True))
