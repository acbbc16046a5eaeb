"""The first schema: everything from workspaces to events, and the triggers that hold states to their lifecycles.

A migration stands for itself: states and pairs are written out here as they were when it was made.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

Key = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
Serial = sa.BigInteger().with_variant(sa.Integer, "sqlite")

PROVISIONING_STATES = ("creating", "updating", "succeeded", "failed", "deleting")
ALLOCATION_STATES = ("steady", "resizing")
NODE_STATES = ("preparing", "ready", "unusable", "leaving", "gone")
JOB_STATES = ("queued", "running", "terminating", "succeeded", "failed")
ATTEMPT_STATES = ("placed", "running", "stopping", "succeeded", "failed", "stopped", "lost")
OPERATION_STATES = ("InProgress", "Succeeded", "Failed")

PROVISIONING_PAIRS = (
    "creating>succeeded",
    "creating>failed",
    "creating>deleting",
    "succeeded>deleting",
    "failed>deleting",
)
ALLOCATION_PAIRS = ("steady>resizing", "resizing>steady")
NODE_PAIRS = (
    "preparing>ready",
    "preparing>unusable",
    "preparing>leaving",
    "ready>unusable",
    "ready>preparing",
    "ready>leaving",
    "unusable>preparing",
    "unusable>leaving",
    "leaving>gone",
)
JOB_PAIRS = (
    "queued>running",
    "queued>terminating",
    "queued>failed",
    "running>queued",
    "running>terminating",
    "running>succeeded",
    "running>failed",
    "terminating>succeeded",
    "terminating>failed",
)
ATTEMPT_PAIRS = (
    "placed>running",
    "placed>stopping",
    "placed>succeeded",
    "placed>failed",
    "placed>stopped",
    "placed>lost",
    "running>stopping",
    "running>succeeded",
    "running>failed",
    "running>stopped",
    "running>lost",
    "stopping>succeeded",
    "stopping>failed",
    "stopping>stopped",
    "stopping>lost",
)
OPERATION_PAIRS = ("InProgress>Succeeded", "InProgress>Failed")

LIFECYCLES = (
    ("workspaces", "state", PROVISIONING_PAIRS),
    ("experiments", "state", PROVISIONING_PAIRS),
    ("clusters", "state", PROVISIONING_PAIRS),
    ("clusters", "allocation", ALLOCATION_PAIRS),
    ("nodes", "state", NODE_PAIRS),
    ("jobs", "state", PROVISIONING_PAIRS),
    ("jobs", "execution", JOB_PAIRS),
    ("attempts", "state", ATTEMPT_PAIRS),
    ("operations", "status", OPERATION_PAIRS),
)


def _text(name: str, *arguments: sa.ForeignKey, key: bool = False, null: bool = False) -> sa.Column[str]:
    return sa.Column(name, Key if key else sa.Text(), *arguments, nullable=null)


def _number(name: str, null: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=null)


def _primary(table: str, *columns: str) -> sa.PrimaryKeyConstraint:
    return sa.PrimaryKeyConstraint(*columns, name=f"pk_{table}")


def _parent(table: str, column: str, parent: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [parent], name=f"fk_{table}_{column}", ondelete="RESTRICT")


def _unique(table: str, *columns: str) -> sa.UniqueConstraint:
    return sa.UniqueConstraint(*columns, name=f"uq_{table}_{'_'.join(columns)}")


def _one_of(table: str, column: str, states: tuple[str, ...]) -> sa.CheckConstraint:
    values = ", ".join(f"'{state}'" for state in states)
    return sa.CheckConstraint(f"{column} IN ({values})", name=op.f(f"ck_{table}_{column}"))


def _index(name: str, table: str, columns: list[str], where: str | None = None, *, unique: bool = False) -> None:
    condition = None if where is None else sa.text(where)
    op.create_index(
        name,
        table,
        [sa.text(column) if " " in column else column for column in columns],
        unique=unique,
        sqlite_where=condition,
        postgresql_where=condition,
    )


def upgrade() -> None:
    _resources()
    _jobs()
    _logs()
    for table, column, pairs in LIFECYCLES:
        _enforce(table, column, pairs)


def _resources() -> None:
    op.create_table("meta", _text("key", key=True), _text("value"), _primary("meta", "key"))
    op.create_table(
        "workspaces",
        _text("key", key=True),
        _text("subscription"),
        _text("resource_group"),
        _text("name"),
        _text("location"),
        _text("tags"),
        _text("state"),
        _number("state_at"),
        _number("created_at"),
        _number("modified_at"),
        _primary("workspaces", "key"),
        _one_of("workspaces", "state", PROVISIONING_STATES),
    )
    _index("ix_workspaces_deleting", "workspaces", ["key"], "state = 'deleting'")
    op.create_table(
        "experiments",
        _text("key", key=True),
        _text("workspace_key", key=True),
        _text("name"),
        _text("state"),
        _number("state_at"),
        _number("created_at"),
        _number("modified_at"),
        _primary("experiments", "key"),
        _parent("experiments", "workspace_key", "workspaces.key"),
        _one_of("experiments", "state", PROVISIONING_STATES),
    )
    _index("ix_experiments_workspace", "experiments", ["workspace_key", "key"])
    _index("ix_experiments_deleting", "experiments", ["key"], "state = 'deleting'")
    op.create_table(
        "clusters",
        _text("key", key=True),
        _text("workspace_key", key=True),
        _text("name"),
        _text("uid", key=True),
        _number("pool"),
        _text("engine"),
        _text("vm_size"),
        _text("definition"),
        _text("scale"),
        _text("state"),
        _number("state_at"),
        _text("allocation"),
        _number("allocation_at"),
        _text("errors"),
        _number("created_at"),
        _number("modified_at"),
        _number("next_ordinal"),
        _primary("clusters", "key"),
        _parent("clusters", "workspace_key", "workspaces.key"),
        _unique("clusters", "uid"),
        _unique("clusters", "pool"),
        _one_of("clusters", "state", PROVISIONING_STATES),
        _one_of("clusters", "allocation", ALLOCATION_STATES),
    )
    _index("ix_clusters_workspace", "clusters", ["workspace_key", "key"])
    op.create_table(
        "nodes",
        _text("id", key=True),
        _text("cluster_uid", key=True),
        _number("ordinal"),
        _text("state"),
        _number("state_at"),
        _number("boot"),
        _text("host_name"),
        _text("address"),
        _number("ssh_port", null=True),
        _text("reason", null=True),
        _number("released_at", null=True),
        _primary("nodes", "id"),
        _parent("nodes", "cluster_uid", "clusters.uid"),
        _unique("nodes", "cluster_uid", "ordinal"),
        _one_of("nodes", "state", NODE_STATES),
    )
    _index("ix_nodes_present", "nodes", ["cluster_uid", "ordinal"], "state <> 'gone'")


def _jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", Serial, autoincrement=True, nullable=False),
        _text("key", key=True),
        _text("experiment_key", key=True),
        _text("workspace_key", key=True),
        _text("cluster_key", key=True),
        _text("cluster_uid", key=True),
        _text("name"),
        _text("uid", key=True),
        _text("segment"),
        _number("priority"),
        _number("node_count"),
        _text("tool_type"),
        _text("definition"),
        sa.Column("wall_clock_seconds", sa.Double, nullable=True),
        _text("state"),
        _number("state_at"),
        _text("execution"),
        _number("execution_at"),
        _number("created_at"),
        _number("modified_at"),
        _number("started_at", null=True),
        _number("ended_at", null=True),
        _number("exit_code", null=True),
        _text("errors"),
        _number("attempts"),
        _number("lost_attempts"),
        _text("requeue_reason", null=True),
        _text("code_snapshot", null=True),
        _primary("jobs", "id"),
        _parent("jobs", "experiment_key", "experiments.key"),
        _unique("jobs", "key"),
        _unique("jobs", "uid"),
        _one_of("jobs", "state", PROVISIONING_STATES),
        _one_of("jobs", "execution", JOB_STATES),
        sqlite_autoincrement=True,
    )
    _index("ix_jobs_experiment", "jobs", ["experiment_key", "id"])
    _index("ix_jobs_cluster", "jobs", ["cluster_uid", "execution", "id"])
    queued = "execution = 'queued' AND state <> 'deleting'"
    _index("ix_jobs_queue", "jobs", ["cluster_uid", "priority DESC", "id"], queued)
    _index("ix_jobs_ending", "jobs", ["id"], "execution = 'terminating' OR state = 'deleting'")
    op.create_table(
        "attempts",
        _text("id", key=True),
        sa.Column("job_id", Serial, nullable=False),
        _number("number"),
        _text("cluster_uid", key=True),
        _text("node_ids"),
        _text("state"),
        _number("state_at"),
        _number("placed_at"),
        _number("ended_at", null=True),
        _number("exit_code", null=True),
        _text("reason", null=True),
        _text("stop_reason", null=True),
        _text("after_stop", null=True),
        _primary("attempts", "id"),
        _parent("attempts", "job_id", "jobs.id"),
        _unique("attempts", "job_id", "number"),
        _one_of("attempts", "state", ATTEMPT_STATES),
    )
    live = "state IN ('placed', 'running', 'stopping')"
    _index("uq_attempts_live_job", "attempts", ["job_id"], live, unique=True)
    _index("ix_attempts_live_cluster", "attempts", ["cluster_uid"], live)
    op.create_table(
        "holdings",
        _text("node_id", key=True),
        _text("attempt_id", key=True),
        _primary("holdings", "node_id"),
        _parent("holdings", "node_id", "nodes.id"),
        _parent("holdings", "attempt_id", "attempts.id"),
    )
    _index("ix_holdings_attempt", "holdings", ["attempt_id"])


def _logs() -> None:
    op.create_table(
        "operations",
        _text("id", key=True),
        _text("subscription"),
        _text("location"),
        _text("resource_id"),
        _text("verb"),
        _text("resource_key", key=True),
        _text("status"),
        _number("started_at"),
        _number("ended_at", null=True),
        _text("error", null=True),
        _primary("operations", "id"),
        _one_of("operations", "status", OPERATION_STATES),
    )
    _index("ix_operations_in_progress", "operations", ["resource_key", "verb"], "status = 'InProgress'")
    op.create_table(
        "events",
        sa.Column("seq", Serial, autoincrement=True, nullable=False),
        _number("at"),
        _text("kind"),
        _text("resource_key", key=True),
        _text("event"),
        _text("from_state", null=True),
        _text("to_state", null=True),
        _text("reason", null=True),
        _text("details", null=True),
        _primary("events", "seq"),
        sqlite_autoincrement=True,
    )
    _index("ix_events_resource", "events", ["resource_key", "seq"])
    op.create_table(
        "secrets",
        _text("owner_uid", key=True),
        _text("path", key=True),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        _primary("secrets", "owner_uid", "path"),
    )
    op.create_table(
        "code_snapshots",
        _text("id", key=True),
        _text("workspace_key", key=True),
        _text("manifest"),
        _number("created_at"),
        _primary("code_snapshots", "id"),
    )


def _enforce(table: str, column: str, pairs: tuple[str, ...]) -> None:
    """Make the database refuse every change of ``column`` but ``pairs``, whoever asks."""
    name = f"{table}_{column}_lifecycle"
    values = ", ".join(f"'{pair}'" for pair in pairs)
    forbidden = f"OLD.{column} <> NEW.{column} AND (OLD.{column} || '>' || NEW.{column}) NOT IN ({values})"
    message = f"{table}.{column} cannot change in this way: see the lifecycle"
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            f"CREATE TRIGGER {name} BEFORE UPDATE OF {column} ON {table} FOR EACH ROW WHEN {forbidden} "
            f"BEGIN SELECT RAISE(ABORT, '{message}'); END"
        )
        return
    op.execute(
        f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{message}' USING ERRCODE = 'check_violation'; END $$"
    )
    op.execute(
        f"CREATE TRIGGER {name} BEFORE UPDATE OF {column} ON {table} FOR EACH ROW WHEN ({forbidden}) "
        f"EXECUTE FUNCTION {name}()"
    )
