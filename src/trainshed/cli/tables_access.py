"""The columns of tables of users, tokens, roles and the audit log."""

from __future__ import annotations

from trainshed.cli.output import Column
from trainshed.cli.times import ago
from trainshed.client.access import Principal, RoleAssignment, RoleDefinition, Token
from trainshed.client.models import Record

PRINCIPALS: list[Column[Principal]] = [
    Column("Name", lambda p: p.name),
    Column("Display name", lambda p: p.display_name),
    Column("Kind", lambda p: p.kind),
    Column("Locked", lambda p: "yes" if p.disabled else ""),
    Column("Object id", lambda p: p.object_id),
]

TOKENS: list[Column[Token]] = [
    Column("ID", lambda t: t.name),
    Column("For", lambda t: t.display_name),
    Column("State", lambda t: t.state),
    Column("Expires", lambda t: f"{t.expires:%Y-%m-%d}" if t.expires else ""),
    Column("Last used", lambda t: ago(t.last_used)),
    Column("Role", lambda t: t.properties.get("role")),
    Column("Scope", lambda t: t.properties.get("scope")),
]

ROLES: list[Column[RoleDefinition]] = [
    Column("Role", lambda r: r.role),
    Column("For", lambda r: r.description),
]

ASSIGNMENTS: list[Column[RoleAssignment]] = [
    Column("User", lambda a: a.principal),
    Column("Role", lambda a: a.role),
    Column("Scope", lambda a: a.assigned_at),
]

AUDIT: list[Column[Record]] = [
    Column("Time", lambda e: e.get("time")),
    Column("User", lambda e: e.get("caller")),
    Column("Action", lambda e: e.get("action")),
    Column("Resource", lambda e: e.get("resource")),
    Column("Outcome", lambda e: e.get("outcome")),
    Column("Code", lambda e: e.get("code")),
    Column("Source", lambda e: e.get("source")),
]
