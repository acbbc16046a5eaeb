"""Jobs wait for other jobs, and come in arrays: what they wait for, and queues without those that still do."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

Key = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
Serial = sa.BigInteger().with_variant(sa.Integer, "sqlite")

_QUEUED = "execution = 'queued' AND state <> 'deleting' AND blocked = 0"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("blocked", sa.BigInteger, nullable=False, server_default=sa.text("0")))
    op.add_column("jobs", sa.Column("array_id", sa.BigInteger, nullable=True))
    op.add_column("jobs", sa.Column("waits_turn", sa.BigInteger, nullable=False, server_default=sa.text("0")))
    for name in ("ix_jobs_queue", "ix_jobs_lanes", "ix_jobs_delayed"):
        op.drop_index(name, "jobs")
    _index("ix_jobs_queue", ["cluster_uid", sa.text("priority DESC"), sa.text("returned DESC"), "id"], _QUEUED)
    _index("ix_jobs_lanes", ["cluster_uid", "priority", "returned", "submitted_by", "experiment_key", "id"], _QUEUED)
    _index("ix_jobs_delayed", ["not_before"], f"{_QUEUED} AND not_before IS NOT NULL")
    _index("ix_jobs_blocked", ["cluster_uid", "blocked", "id"], _QUEUED.replace("blocked = 0", "blocked > 0"))
    _index("ix_jobs_array", ["array_id", "waits_turn", "execution", "id"], "array_id IS NOT NULL")
    _index("ix_jobs_turn", ["array_id"], "waits_turn = 1")
    op.create_table(
        "job_arrays",
        sa.Column("id", Serial, nullable=False, autoincrement=True),
        sa.Column("key", Key, nullable=False),
        sa.Column("experiment_key", Key, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("definition", sa.Text, nullable=False),
        sa.Column("max_running", sa.BigInteger, nullable=True),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_job_arrays"),
        sa.UniqueConstraint("key", name="uq_job_arrays_key"),
        sa.ForeignKeyConstraint(
            ["experiment_key"], ["experiments.key"], name="fk_job_arrays_experiment_key", ondelete="CASCADE"
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_job_arrays_experiment", "job_arrays", ["experiment_key", "id"])
    op.create_table(
        "dependencies",
        sa.Column("job_id", Serial, nullable=False),
        sa.Column("on_job_id", sa.BigInteger, nullable=False),
        sa.Column("condition", Key, nullable=False),
        sa.Column("on_name", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("job_id", "on_job_id", "condition", name="pk_dependencies"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_dependencies_job_id", ondelete="CASCADE"),
    )
    op.create_index("ix_dependencies_on", "dependencies", ["on_job_id", "condition"])


def _index(name: str, columns: list[str | sa.TextClause], condition: str) -> None:
    where = sa.text(condition)
    op.create_index(name, "jobs", columns, sqlite_where=where, postgresql_where=where)
