"""Who holds which role where."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, or_, select
from sqlalchemy import delete as delete_from
from sqlalchemy import insert as insert_into

from trainshed.store._statements import first, refused_as, rows_changed
from trainshed.store.errors import AlreadyExists, NotFound
from trainshed.store.records import RoleAssignmentRecord
from trainshed.store.tables import role_assignments as table

_insert = insert_into(table).inline()
_get = select(table).where(table.c.id == bindparam("of"))
_same = select(table).where(
    table.c.scope_key == bindparam("scope_key"),
    table.c.principal_id == bindparam("principal_id"),
    table.c.role == bindparam("role"),
)
_of_principal = select(table).where(table.c.principal_id == bindparam("of")).order_by(table.c.scope_key, table.c.id)
#: Scopes below one lie together: between its key and the end of that prefix ("0" follows "/").
_below = or_(
    table.c.scope_key == bindparam("scope"),
    (table.c.scope_key > bindparam("start")) & (table.c.scope_key < bindparam("end")),
)
_at_or_below = select(table).where(_below).order_by(table.c.scope_key, table.c.id)
_at = select(table).where(table.c.scope_key.in_(bindparam("scopes", expanding=True))).order_by(
    table.c.scope_key, table.c.id
)  # fmt: skip
_delete = delete_from(table).where(table.c.id == bindparam("of"))
_delete_below = delete_from(table).where(_below)


def insert(tx: Connection, assignment: RoleAssignmentRecord) -> None:
    """Store a new one. Raises AlreadyExists when its id is taken, or the same role is held there already."""
    with refused_as(tx, lambda: AlreadyExists("role assignment", assignment.id)):
        tx.execute(
            _insert,
            {
                "id": assignment.id,
                "scope_key": assignment.scope_key,
                "scope": assignment.scope,
                "principal_id": assignment.principal_id,
                "role": assignment.role,
                "created_at": assignment.created_at,
                "created_by": assignment.created_by,
            },
        )


def get(tx: Connection, id: str) -> RoleAssignmentRecord:
    """Raises NotFound."""
    row = first(tx, _get, {"of": id})
    if row is None:
        raise NotFound("role assignment", id)
    return RoleAssignmentRecord(*row)


def same(tx: Connection, scope_key: str, principal_id: str, role: str) -> RoleAssignmentRecord | None:
    """The assignment that says this already, or None."""
    row = first(tx, _same, {"scope_key": scope_key, "principal_id": principal_id, "role": role})
    return None if row is None else RoleAssignmentRecord(*row)


def of_principal(tx: Connection, principal_id: str) -> list[RoleAssignmentRecord]:
    """In order of their scopes."""
    return [RoleAssignmentRecord(*row) for row in tx.execute(_of_principal, {"of": principal_id})]


def that_count_at(tx: Connection, scope_key: str) -> list[RoleAssignmentRecord]:
    """Those at a scope and those that it inherits from above."""
    parts = [part for part in scope_key.split("/") if part]
    scopes = ["/", *("/" + "/".join(parts[: count + 1]) for count in range(len(parts)))]
    return [RoleAssignmentRecord(*row) for row in tx.execute(_at, {"scopes": scopes})]


def at_or_below(tx: Connection, scope_key: str) -> list[RoleAssignmentRecord]:
    """Those at a scope and everywhere in it."""
    return [RoleAssignmentRecord(*row) for row in tx.execute(_at_or_below, _prefix(scope_key))]


def delete(tx: Connection, id: str) -> bool:
    """Take it away; whether it was there."""
    return rows_changed(tx, _delete, {"of": id}) > 0


def delete_at_or_below(tx: Connection, scope_key: str) -> None:
    """A resource went: whoever makes another of its name starts without its roles."""
    rows_changed(tx, _delete_below, _prefix(scope_key))


def _prefix(scope_key: str) -> dict[str, str]:
    stem = scope_key.rstrip("/")
    return {"scope": scope_key, "start": f"{stem}/", "end": f"{stem}0"}
