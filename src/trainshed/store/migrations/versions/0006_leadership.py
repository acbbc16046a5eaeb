"""Which of several service processes controls, and what refuses the writes of one that does no more."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

#: What only a controller writes.
CONTROLLED = ("attempts", "holdings", "nodes", "usage")

#: Whoever changes these rows names its token for the transaction (``store.leadership.fence``). The lock keeps the token
#: current until the transaction ends: a take-over changes it, and waits. Without a lease nobody is refused.
REFUSE = """
CREATE FUNCTION refuse_stale_leader() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM leadership
      WHERE token = CAST(nullif(current_setting('trainshed.leader', true), '') AS bigint) AND holder <> ''
      FOR KEY SHARE;
    IF NOT FOUND AND EXISTS (SELECT 1 FROM leadership) THEN
        RAISE EXCEPTION 'only the leading controller changes %', TG_TABLE_NAME USING ERRCODE = '55000';
    END IF;
    RETURN NULL;
END $$
"""


def upgrade() -> None:
    op.create_table(
        "leadership",
        sa.Column("id", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("token", sa.BigInteger, nullable=False),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("acquired_at", sa.BigInteger, nullable=False),
        sa.Column("renewed_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("engine_available", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_leadership"),
        sa.UniqueConstraint("token", name="uq_leadership_token"),
        sa.CheckConstraint("id = 1", name=op.f("ck_leadership_one_row")),
    )
    if op.get_bind().dialect.name == "sqlite":
        return
    op.execute(REFUSE)
    for table in CONTROLLED:
        op.execute(
            f"CREATE TRIGGER {table}_leader BEFORE INSERT OR UPDATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_stale_leader()"
        )
