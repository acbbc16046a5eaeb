"""The tables, as the newest migration leaves them (a test compares the two on both databases).

Keys sort by code point on both databases, so that a page begins where the last one ended. Columns that hold JSON are
text: the store encodes and decodes them itself (``encoding``). Triggers that enforce lifecycles are in the migrations.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects import postgresql

from trainshed.resources.lifecycle import (
    AllocationState,
    AttemptState,
    JobState,
    NodeState,
    OperationState,
    ProvisioningState,
)

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

#: Text ordered by code point.
Key = Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
#: SQLite numbers rows only in a column declared INTEGER.
Serial = BigInteger().with_variant(Integer, "sqlite")
#: Unix milliseconds.
Time = BigInteger

#: Conditions of the partial indexes. Queries repeat them word for word, or the index is not used.
QUEUED = text("execution = 'queued' AND state <> 'deleting' AND blocked = 0 AND handed_over = 0")
DELAYED = text(
    "execution = 'queued' AND state <> 'deleting' AND blocked = 0 AND handed_over = 0 AND not_before IS NOT NULL"
)
HANDED_OVER = text("execution = 'queued' AND handed_over = 1")
BLOCKED = text("execution = 'queued' AND state <> 'deleting' AND blocked > 0")
ARRAYED = text("array_id IS NOT NULL")
IN_LINE = text("waits_turn = 1")
ENDING = text("execution = 'terminating' OR state = 'deleting'")
LIVE = text("state IN ('placed', 'running', 'stopping')")
LOST = text("state = 'lost'")
IN_PROGRESS = text("status = 'InProgress'")
DELETING = text("state = 'deleting'")
NOT_GONE = text("state <> 'gone'")


def _one_of(column: str, states: Iterable[StrEnum]) -> CheckConstraint:
    values = ", ".join(f"'{state.value}'" for state in states)
    return CheckConstraint(f"{column} IN ({values})", name=column)


meta = Table(
    "meta",
    metadata,
    Column("key", Key, primary_key=True),
    Column("value", Text, nullable=False),
)

workspaces = Table(
    "workspaces",
    metadata,
    Column("key", Key, primary_key=True),
    Column("subscription", Text, nullable=False),
    Column("resource_group", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("location", Text, nullable=False),
    Column("tags", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("state_at", Time, nullable=False),
    Column("created_at", Time, nullable=False),
    Column("modified_at", Time, nullable=False),
    # Which unprivileged user of the configured range its jobs run as. Never given again.
    Column("user_number", BigInteger, nullable=False, server_default=text("0")),
    # schedulingRules as JSON, null without any.
    Column("scheduling", Text),
    _one_of("state", ProvisioningState),
    Index("ix_workspaces_deleting", "key", sqlite_where=DELETING, postgresql_where=DELETING),
)

resource_groups = Table(
    "resource_groups",
    metadata,
    Column("key", Key, primary_key=True),
    Column("subscription", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("location", Text, nullable=False),
    Column("tags", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("state_at", Time, nullable=False),
    Column("created_at", Time, nullable=False),
    Column("modified_at", Time, nullable=False),
    _one_of("state", ProvisioningState),
    Index("ix_resource_groups_deleting", "key", sqlite_where=DELETING, postgresql_where=DELETING),
)

#: Embedded storage accounts: directories that the service owns. Their keys are sealed in ``secrets``.
storage_accounts = Table(
    "storage_accounts",
    metadata,
    # Lower case; unique in the whole service, as the original's are in the world.
    Column("name", Key, primary_key=True),
    Column("uid", Key, nullable=False, unique=True),
    Column("group_key", Key, nullable=False),
    Column("subscription", Text, nullable=False),
    Column("resource_group", Text, nullable=False),
    Column("location", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("sku", Text, nullable=False),
    Column("tags", Text, nullable=False),
    Column("created_at", Time, nullable=False),
    Column("modified_at", Time, nullable=False),
    Index("ix_storage_accounts_group", "group_key", "name"),
)

experiments = Table(
    "experiments",
    metadata,
    Column("key", Key, primary_key=True),
    Column("workspace_key", Key, ForeignKey("workspaces.key", ondelete="RESTRICT"), nullable=False),
    Column("name", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("state_at", Time, nullable=False),
    Column("created_at", Time, nullable=False),
    Column("modified_at", Time, nullable=False),
    _one_of("state", ProvisioningState),
    Index("ix_experiments_workspace", "workspace_key", "key"),
    Index("ix_experiments_deleting", "key", sqlite_where=DELETING, postgresql_where=DELETING),
)

clusters = Table(
    "clusters",
    metadata,
    Column("key", Key, primary_key=True),
    Column("workspace_key", Key, ForeignKey("workspaces.key", ondelete="RESTRICT"), nullable=False),
    Column("name", Text, nullable=False),
    Column("uid", Key, nullable=False, unique=True),
    Column("pool", BigInteger, nullable=False, unique=True),
    Column("engine", Text, nullable=False),
    Column("vm_size", Text, nullable=False),
    Column("definition", Text, nullable=False),
    Column("scale", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("state_at", Time, nullable=False),
    Column("allocation", Text, nullable=False),
    Column("allocation_at", Time, nullable=False),
    Column("errors", Text, nullable=False),
    Column("created_at", Time, nullable=False),
    Column("modified_at", Time, nullable=False),
    Column("next_ordinal", BigInteger, nullable=False),
    # How far it is with replacing nodes that failed; null when it is well.
    Column("recovery", Text),
    _one_of("state", ProvisioningState),
    _one_of("allocation", AllocationState),
    Index("ix_clusters_workspace", "workspace_key", "key"),
)

file_servers = Table(
    "file_servers",
    metadata,
    Column("key", Key, primary_key=True),
    Column("workspace_key", Key, ForeignKey("workspaces.key", ondelete="RESTRICT"), nullable=False),
    Column("name", Text, nullable=False),
    Column("uid", Key, nullable=False, unique=True),
    Column("definition", Text, nullable=False),
    # mountSettings of the contract, once it has an address.
    Column("mount_settings", Text),
    Column("state", Text, nullable=False),
    Column("state_at", Time, nullable=False),
    Column("created_at", Time, nullable=False),
    Column("modified_at", Time, nullable=False),
    _one_of("state", ProvisioningState),
    Index("ix_file_servers_workspace", "workspace_key", "key"),
)

nodes = Table(
    "nodes",
    metadata,
    Column("id", Key, primary_key=True),
    Column("cluster_uid", Key, ForeignKey("clusters.uid", ondelete="RESTRICT"), nullable=False),
    Column("ordinal", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("state_at", Time, nullable=False),
    Column("boot", BigInteger, nullable=False),
    Column("host_name", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("ssh_port", BigInteger),
    Column("reason", Text),
    # When the last attempt let go of it; auto-scale counts idle time from here.
    Column("released_at", Time),
    # Attempts that were lost on it one after another; null when the last one came to an end of its own.
    Column("losses", Text),
    _one_of("state", NodeState),
    UniqueConstraint("cluster_uid", "ordinal"),
    Index("ix_nodes_present", "cluster_uid", "ordinal", sqlite_where=NOT_GONE, postgresql_where=NOT_GONE),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("key", Key, nullable=False, unique=True),
    Column("experiment_key", Key, ForeignKey("experiments.key", ondelete="RESTRICT"), nullable=False),
    Column("workspace_key", Key, nullable=False),
    Column("cluster_key", Key, nullable=False),
    # No foreign key: jobs outlive the cluster that they ran on.
    Column("cluster_uid", Key, nullable=False),
    Column("name", Text, nullable=False),
    Column("uid", Key, nullable=False, unique=True),
    Column("segment", Text, nullable=False),
    Column("priority", BigInteger, nullable=False),
    Column("node_count", BigInteger, nullable=False),
    Column("tool_type", Text, nullable=False),
    Column("definition", Text, nullable=False),
    Column("wall_clock_seconds", Double),
    Column("state", Text, nullable=False),
    Column("state_at", Time, nullable=False),
    Column("execution", Text, nullable=False),
    Column("execution_at", Time, nullable=False),
    Column("created_at", Time, nullable=False),
    Column("modified_at", Time, nullable=False),
    Column("started_at", Time),
    Column("ended_at", Time),
    Column("exit_code", BigInteger),
    Column("errors", Text, nullable=False),
    Column("attempts", BigInteger, nullable=False),
    Column("lost_attempts", BigInteger, nullable=False),
    Column("requeue_reason", Text),
    Column("code_snapshot", Text),
    # Own failures that the retry policy forgave, and before when it is not tried again.
    Column("retries", BigInteger, nullable=False, server_default=text("0")),
    Column("not_before", Time),
    # The principal that submitted it.
    Column("submitted_by", Key),
    # How often it had to give up its nodes to others.
    Column("preemptions", BigInteger, nullable=False, server_default=text("0")),
    # 1 while it waits because it was pre-empted: it goes before others of its priority.
    Column("returned", BigInteger, nullable=False, server_default=text("0")),
    # How many rows of ``dependencies`` it has, and one more while it waits for its turn: until 0 it is in no queue.
    Column("blocked", BigInteger, nullable=False, server_default=text("0")),
    # The array that it is of. No foreign key: jobs outlive it for a moment.
    Column("array_id", BigInteger),
    # 1 while as many jobs of its array as may run at once are before it.
    Column("waits_turn", BigInteger, nullable=False, server_default=text("0")),
    # 1 while an engine that queues by itself has it and it has not begun: it is in no queue of ours.
    Column("handed_over", BigInteger, nullable=False, server_default=text("0")),
    _one_of("state", ProvisioningState),
    _one_of("execution", JobState),
    Index("ix_jobs_experiment", "experiment_key", "id"),
    Index("ix_jobs_cluster", "cluster_uid", "execution", "id"),
    Index(
        "ix_jobs_queue",
        "cluster_uid",
        text("priority DESC"),
        text("returned DESC"),
        "id",
        sqlite_where=QUEUED,
        postgresql_where=QUEUED,
    ),
    # Whose jobs wait, for fair share and limits, without reading all that wait.
    Index(
        "ix_jobs_lanes",
        "cluster_uid",
        "priority",
        "returned",
        "submitted_by",
        "experiment_key",
        "id",
        sqlite_where=QUEUED,
        postgresql_where=QUEUED,
    ),
    Index("ix_jobs_delayed", "not_before", sqlite_where=DELAYED, postgresql_where=DELAYED),
    Index("ix_jobs_handed_over", "cluster_uid", "id", sqlite_where=HANDED_OVER, postgresql_where=HANDED_OVER),
    Index("ix_jobs_blocked", "cluster_uid", "blocked", "id", sqlite_where=BLOCKED, postgresql_where=BLOCKED),
    Index("ix_jobs_array", "array_id", "waits_turn", "execution", "id", sqlite_where=ARRAYED, postgresql_where=ARRAYED),
    Index("ix_jobs_turn", "array_id", sqlite_where=IN_LINE, postgresql_where=IN_LINE),
    Index("ix_jobs_ending", "id", sqlite_where=ENDING, postgresql_where=ENDING),
    # An id is never given again, also after the newest job was deleted.
    sqlite_autoincrement=True,
)

#: Jobs that were submitted together, one for each index.
job_arrays = Table(
    "job_arrays",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("key", Key, nullable=False, unique=True),
    Column("experiment_key", Key, ForeignKey("experiments.key", ondelete="CASCADE"), nullable=False),
    Column("name", Text, nullable=False),
    Column("definition", Text, nullable=False),
    # How many of its jobs may run at once; null for all.
    Column("max_running", BigInteger),
    Column("created_at", Time, nullable=False),
    Index("ix_job_arrays_experiment", "experiment_key", "id"),
    # Jobs of an array that was deleted may still be there for a moment.
    sqlite_autoincrement=True,
)

#: What jobs still wait for before they join their queues. What is met is not kept.
dependencies = Table(
    "dependencies",
    metadata,
    Column("job_id", Serial, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    # No foreign key: that the other job was deleted has a meaning. Ids are never given again.
    Column("on_job_id", BigInteger, primary_key=True, autoincrement=False),
    # ``after``, ``afterOk`` or ``afterAny``.
    Column("condition", Key, primary_key=True),
    # The other job as the user named it.
    Column("on_name", Text, nullable=False),
    Index("ix_dependencies_on", "on_job_id", "condition"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("id", Key, primary_key=True),
    Column("job_id", Serial, ForeignKey("jobs.id", ondelete="RESTRICT"), nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("cluster_uid", Key, nullable=False),
    Column("node_ids", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("state_at", Time, nullable=False),
    Column("placed_at", Time, nullable=False),
    Column("ended_at", Time),
    Column("exit_code", BigInteger),
    Column("reason", Text),
    Column("stop_reason", Text),
    Column("after_stop", Text),
    # The signal and the seconds that its processes get before they are stopped.
    Column("stop_warning", Text),
    # Of one that was handed over to an engine that queues: why it waits there, until it has begun; and when it began.
    Column("waiting", Text),
    Column("began_at", Time),
    _one_of("state", AttemptState),
    UniqueConstraint("job_id", "number"),
    Index("uq_attempts_live_job", "job_id", unique=True, sqlite_where=LIVE, postgresql_where=LIVE),
    Index("ix_attempts_live_cluster", "cluster_uid", sqlite_where=LIVE, postgresql_where=LIVE),
    Index("ix_attempts_lost", "cluster_uid", "ended_at", sqlite_where=LOST, postgresql_where=LOST),
)

#: Which live attempt holds a node. A node is a primary key here: it cannot be in two live attempts.
holdings = Table(
    "holdings",
    metadata,
    Column("node_id", Key, ForeignKey("nodes.id", ondelete="RESTRICT"), primary_key=True),
    Column("attempt_id", Key, ForeignKey("attempts.id", ondelete="RESTRICT"), nullable=False),
    Index("ix_holdings_attempt", "attempt_id"),
)

#: What attempts that are over used, by the hour in which they ended: for fair share and budgets.
usage = Table(
    "usage",
    metadata,
    Column("workspace_key", Key, primary_key=True),
    # Unix hours.
    Column("hour", BigInteger, primary_key=True, autoincrement=False),
    # The principal's id, empty where nobody was named.
    Column("user_id", Key, primary_key=True),
    Column("experiment_key", Key, primary_key=True),
    Column("vm_size", Key, primary_key=True),
    Column("vm_priority", Key, primary_key=True),
    Column("node_ms", BigInteger, nullable=False),
)

operations = Table(
    "operations",
    metadata,
    Column("id", Key, primary_key=True),
    Column("subscription", Text, nullable=False),
    Column("location", Text, nullable=False),
    Column("resource_id", Text, nullable=False),
    Column("verb", Text, nullable=False),
    Column("resource_key", Key, nullable=False),
    Column("status", Text, nullable=False),
    Column("started_at", Time, nullable=False),
    Column("ended_at", Time),
    Column("error", Text),
    _one_of("status", OperationState),
    Index(
        "ix_operations_in_progress",
        "resource_key",
        "verb",
        sqlite_where=IN_PROGRESS,
        postgresql_where=IN_PROGRESS,
    ),
)

events = Table(
    "events",
    metadata,
    Column("seq", Serial, primary_key=True, autoincrement=True),
    Column("at", Time, nullable=False),
    Column("kind", Text, nullable=False),
    Column("resource_key", Key, nullable=False),
    Column("event", Text, nullable=False),
    Column("from_state", Text),
    Column("to_state", Text),
    Column("reason", Text),
    Column("details", Text),
    Index("ix_events_resource", "resource_key", "seq"),
    sqlite_autoincrement=True,
)

secrets = Table(
    "secrets",
    metadata,
    Column("owner_uid", Key, primary_key=True),
    Column("path", Key, primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
)

#: Uploaded code belongs to its workspace alone: ``workspace_number`` is the workspace's ``user_number``.
code_snapshots = Table(
    "code_snapshots",
    metadata,
    Column("workspace_number", BigInteger, primary_key=True, autoincrement=False),
    Column("id", Key, primary_key=True),
    Column("manifest", Text, nullable=False),
    Column("created_at", Time, nullable=False),
)

#: Who may call: people and programs.
principals = Table(
    "principals",
    metadata,
    # The object id: a GUID.
    Column("id", Key, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("name", Key, nullable=False, unique=True),
    Column("display_name", Text, nullable=False),
    # Who vouches for it, for those that come with a token of an OpenID provider.
    Column("issuer", Key),
    Column("subject", Key),
    Column("disabled_at", Time),
    Column("created_at", Time, nullable=False),
    UniqueConstraint("issuer", "subject"),
)

#: Personal access tokens. Only a digest is kept.
tokens = Table(
    "tokens",
    metadata,
    Column("id", Key, primary_key=True),
    Column("principal_id", Key, ForeignKey("principals.id", ondelete="RESTRICT"), nullable=False),
    Column("name", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    # What the token allows at most: a scope, and a role's name; null for all that its owner may.
    Column("scope", Key),
    Column("role", Text),
    Column("created_at", Time, nullable=False),
    Column("expires_at", Time, nullable=False),
    Column("revoked_at", Time),
    Column("last_used_at", Time),
    Index("ix_tokens_principal", "principal_id", "id"),
)

role_assignments = Table(
    "role_assignments",
    metadata,
    Column("id", Key, primary_key=True),
    # Lower case, without the provider's part of the path: ``/``, ``/subscriptions/s`` ...
    Column("scope_key", Key, nullable=False),
    Column("scope", Text, nullable=False),
    Column("principal_id", Key, ForeignKey("principals.id", ondelete="RESTRICT"), nullable=False),
    Column("role", Key, nullable=False),
    Column("created_at", Time, nullable=False),
    Column("created_by", Key, nullable=False),
    UniqueConstraint("scope_key", "principal_id", "role"),
    Index("ix_role_assignments_principal", "principal_id"),
)

#: Who changed what, append-only: the database refuses every update and deletion.
audit = Table(
    "audit",
    metadata,
    Column("seq", Serial, primary_key=True, autoincrement=True),
    Column("at", Time, nullable=False),
    Column("principal_id", Key),
    Column("caller", Text, nullable=False),
    Column("token_id", Key),
    Column("action", Key, nullable=False),
    Column("resource", Key, nullable=False),
    # ``accepted`` (written with the change itself), or ``refused`` and ``failed`` with what the caller was answered.
    Column("outcome", Text, nullable=False),
    Column("status", BigInteger),
    Column("code", Text),
    Column("source", Text, nullable=False),
    Column("request_id", Key, nullable=False),
    sqlite_autoincrement=True,
)

#: One row: who controls. ``token`` grows with each take-over and is unique so that changing it waits for transactions
#: that hold a key-share lock on the row, and renewing does not (PostgreSQL, Explicit Locking). Unused on SQLite.
leadership = Table(
    "leadership",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("token", BigInteger, nullable=False),
    Column("holder", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("acquired_at", Time, nullable=False),
    Column("renewed_at", Time, nullable=False),
    Column("expires_at", Time, nullable=False),
    Column("engine_available", BigInteger, nullable=False),
    UniqueConstraint("token"),
    CheckConstraint("id = 1", name="one_row"),
)
