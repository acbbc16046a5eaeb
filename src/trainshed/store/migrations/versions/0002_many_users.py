"""Many users, and the rest of the contract: who may call, what they did, file servers, groups, storage accounts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

Key = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
Serial = sa.BigInteger().with_variant(sa.Integer, "sqlite")

PROVISIONING_STATES = ("creating", "updating", "succeeded", "failed", "deleting")
PROVISIONING_PAIRS = (
    "creating>succeeded",
    "creating>failed",
    "creating>deleting",
    "succeeded>deleting",
    "failed>deleting",
)


def _text(name: str, *, key: bool = False, null: bool = False) -> sa.Column[str]:
    return sa.Column(name, Key if key else sa.Text(), nullable=null)


def _number(name: str, null: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=null)


def _primary(table: str, *columns: str) -> sa.PrimaryKeyConstraint:
    return sa.PrimaryKeyConstraint(*columns, name=f"pk_{table}")


def _parent(table: str, column: str, parent: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [parent], name=f"fk_{table}_{column}", ondelete="RESTRICT")


def _unique(table: str, *columns: str) -> sa.UniqueConstraint:
    return sa.UniqueConstraint(*columns, name=f"uq_{table}_{'_'.join(columns)}")


def _state(table: str) -> sa.CheckConstraint:
    values = ", ".join(f"'{state}'" for state in PROVISIONING_STATES)
    return sa.CheckConstraint(f"state IN ({values})", name=op.f(f"ck_{table}_state"))


def upgrade() -> None:
    _columns()
    _resources()
    _code()
    _callers()
    for table in ("resource_groups", "file_servers"):
        _enforce(table)
    _append_only("audit")


def _columns() -> None:
    zero = sa.text("0")
    op.add_column("workspaces", sa.Column("user_number", sa.BigInteger, nullable=False, server_default=zero))
    # Workspaces that are there get the first numbers; ``meta`` knows the next.
    tx = op.get_bind()
    keys = [row[0] for row in tx.execute(sa.text("SELECT key FROM workspaces ORDER BY created_at, key"))]
    for number, key in enumerate(keys, start=1):
        tx.execute(sa.text("UPDATE workspaces SET user_number = :n WHERE key = :k"), {"n": number, "k": key})
    tx.execute(sa.text("INSERT INTO meta (key, value) VALUES ('next-user-number', :v)"), {"v": str(len(keys) + 1)})
    op.add_column("jobs", sa.Column("retries", sa.BigInteger, nullable=False, server_default=zero))
    op.add_column("jobs", _number("not_before", null=True))
    delayed = sa.text("execution = 'queued' AND state <> 'deleting' AND not_before IS NOT NULL")
    op.create_index("ix_jobs_delayed", "jobs", ["not_before"], sqlite_where=delayed, postgresql_where=delayed)
    op.add_column("jobs", _text("submitted_by", key=True, null=True))


def _resources() -> None:
    op.create_table(
        "resource_groups",
        _text("key", key=True),
        _text("subscription"),
        _text("name"),
        _text("location"),
        _text("tags"),
        _text("state"),
        _number("state_at"),
        _number("created_at"),
        _number("modified_at"),
        _primary("resource_groups", "key"),
        _state("resource_groups"),
    )
    deleting = sa.text("state = 'deleting'")
    op.create_index(
        "ix_resource_groups_deleting",
        "resource_groups",
        ["key"],
        sqlite_where=deleting,
        postgresql_where=deleting,
    )
    # Groups came into being by being used; those that are used become resources of their own.
    op.execute(
        "INSERT INTO resource_groups "
        "(key, subscription, name, location, tags, state, state_at, created_at, modified_at) "
        "SELECT lower(subscription) || '/' || lower(resource_group), min(subscription), min(resource_group), "
        "min(location), '{}', 'succeeded', min(created_at), min(created_at), min(created_at) "
        "FROM workspaces GROUP BY lower(subscription), lower(resource_group)"
    )
    op.create_table(
        "storage_accounts",
        _text("name", key=True),
        _text("uid", key=True),
        _text("group_key", key=True),
        _text("subscription"),
        _text("resource_group"),
        _text("location"),
        _text("kind"),
        _text("sku"),
        _text("tags"),
        _number("created_at"),
        _number("modified_at"),
        _primary("storage_accounts", "name"),
        _unique("storage_accounts", "uid"),
    )
    op.create_index("ix_storage_accounts_group", "storage_accounts", ["group_key", "name"])
    op.create_table(
        "file_servers",
        _text("key", key=True),
        _text("workspace_key", key=True),
        _text("name"),
        _text("uid", key=True),
        _text("definition"),
        _text("mount_settings", null=True),
        _text("state"),
        _number("state_at"),
        _number("created_at"),
        _number("modified_at"),
        _primary("file_servers", "key"),
        _parent("file_servers", "workspace_key", "workspaces.key"),
        _unique("file_servers", "uid"),
        _state("file_servers"),
    )
    op.create_index("ix_file_servers_workspace", "file_servers", ["workspace_key", "key"])


def _code() -> None:
    """Snapshots were shared by all workspaces, their files too. Code that was sent before is sent again."""
    op.drop_table("code_snapshots")
    op.create_table(
        "code_snapshots",
        _number("workspace_number"),
        _text("id", key=True),
        _text("manifest"),
        _number("created_at"),
        _primary("code_snapshots", "workspace_number", "id"),
    )


def _callers() -> None:
    op.create_table(
        "principals",
        _text("id", key=True),
        _text("kind"),
        _text("name", key=True),
        _text("display_name"),
        _text("issuer", key=True, null=True),
        _text("subject", key=True, null=True),
        _number("disabled_at", null=True),
        _number("created_at"),
        _primary("principals", "id"),
        _unique("principals", "name"),
        _unique("principals", "issuer", "subject"),
    )
    op.create_table(
        "tokens",
        _text("id", key=True),
        _text("principal_id", key=True),
        _text("name"),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        _text("scope", key=True, null=True),
        _text("role", null=True),
        _number("created_at"),
        _number("expires_at"),
        _number("revoked_at", null=True),
        _number("last_used_at", null=True),
        _primary("tokens", "id"),
        _parent("tokens", "principal_id", "principals.id"),
    )
    op.create_index("ix_tokens_principal", "tokens", ["principal_id", "id"])
    op.create_table(
        "role_assignments",
        _text("id", key=True),
        _text("scope_key", key=True),
        _text("scope"),
        _text("principal_id", key=True),
        _text("role", key=True),
        _number("created_at"),
        _text("created_by", key=True),
        _primary("role_assignments", "id"),
        _parent("role_assignments", "principal_id", "principals.id"),
        _unique("role_assignments", "scope_key", "principal_id", "role"),
    )
    op.create_index("ix_role_assignments_principal", "role_assignments", ["principal_id"])
    op.create_table(
        "audit",
        sa.Column("seq", Serial, autoincrement=True, nullable=False),
        _number("at"),
        _text("principal_id", key=True, null=True),
        _text("caller"),
        _text("token_id", key=True, null=True),
        _text("action", key=True),
        _text("resource", key=True),
        _text("outcome"),
        _number("status", null=True),
        _text("code", null=True),
        _text("source"),
        _text("request_id", key=True),
        _primary("audit", "seq"),
        sqlite_autoincrement=True,
    )


def _enforce(table: str) -> None:
    """Make the database refuse every change of ``state`` but the lifecycle's, whoever asks."""
    name = f"{table}_state_lifecycle"
    values = ", ".join(f"'{pair}'" for pair in PROVISIONING_PAIRS)
    forbidden = f"OLD.state <> NEW.state AND (OLD.state || '>' || NEW.state) NOT IN ({values})"
    _refuse(name, table, "UPDATE OF state", forbidden, f"{table}.state cannot change in this way: see the lifecycle")


def _append_only(table: str) -> None:
    for verb in ("UPDATE", "DELETE"):
        _refuse(f"{table}_no_{verb.lower()}", table, verb, "true", f"{table} is append-only")


def _refuse(name: str, table: str, event: str, when: str, message: str) -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            f"CREATE TRIGGER {name} BEFORE {event} ON {table} FOR EACH ROW WHEN {when} "
            f"BEGIN SELECT RAISE(ABORT, '{message}'); END"
        )
        return
    op.execute(
        f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{message}' USING ERRCODE = 'check_violation'; END $$"
    )
    op.execute(f"CREATE TRIGGER {name} BEFORE {event} ON {table} FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION {name}()")
