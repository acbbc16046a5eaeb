"""Who may call: people and programs. The administrator of ``admin.token`` is not among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, func, select, update
from sqlalchemy import delete as delete_from
from sqlalchemy import insert as insert_into

from trainshed.store._statements import first, refused_as, rows_changed
from trainshed.store.errors import AlreadyExists, NotFound
from trainshed.store.records import PrincipalRecord
from trainshed.store.tables import principals as table
from trainshed.store.tables import role_assignments, tokens

_insert = insert_into(table).inline()
_get = select(table).where(table.c.id == bindparam("of"))
_get_by_name = select(table).where(table.c.name == bindparam("of"))
_get_by_subject = select(table).where(table.c.issuer == bindparam("issuer"), table.c.subject == bindparam("subject"))
_page = select(table).where(table.c.name > bindparam("after")).order_by(table.c.name).limit(bindparam("limit"))
_count = select(func.count()).select_from(table)
_change = (
    update(table)
    .where(table.c.id == bindparam("of"))
    .values(display_name=bindparam("shown"), disabled_at=bindparam("at"))
)
_deletions = (
    delete_from(tokens).where(tokens.c.principal_id == bindparam("of")),
    delete_from(role_assignments).where(role_assignments.c.principal_id == bindparam("of")),
    delete_from(table).where(table.c.id == bindparam("of")),
)


def insert(tx: Connection, principal: PrincipalRecord) -> None:
    """Store a new one. Raises AlreadyExists when the id, the name or the issuer's subject is taken."""
    with refused_as(tx, lambda: AlreadyExists("principal", principal.name)):
        tx.execute(
            _insert,
            {
                "id": principal.id,
                "kind": principal.kind,
                "name": principal.name,
                "display_name": principal.display_name,
                "issuer": principal.issuer,
                "subject": principal.subject,
                "disabled_at": principal.disabled_at,
                "created_at": principal.created_at,
            },
        )


def get(tx: Connection, id: str) -> PrincipalRecord:
    """Raises NotFound."""
    return _one(first(tx, _get, {"of": id}), id)


def get_by_name(tx: Connection, name: str) -> PrincipalRecord:
    """By the name as it was given. Raises NotFound."""
    return _one(first(tx, _get_by_name, {"of": name}), name)


def get_by_subject(tx: Connection, issuer: str, subject: str) -> PrincipalRecord:
    """By what an OpenID issuer calls it. Raises NotFound."""
    return _one(first(tx, _get_by_subject, {"issuer": issuer, "subject": subject}), subject)


def page(tx: Connection, after: str | None, limit: int) -> list[PrincipalRecord]:
    """In order of their names, after the name ``after``."""
    return [PrincipalRecord(*row) for row in tx.execute(_page, {"after": after or "", "limit": limit})]


def count(tx: Connection) -> int:
    """How many there are, disabled ones too."""
    return int(tx.execute(_count).scalar_one())


def change(tx: Connection, id: str, display_name: str, disabled_at: int | None) -> None:
    """Give another display name; lock out from the time given (Unix ms) or let in again (None). Raises NotFound."""
    if rows_changed(tx, _change, {"of": id, "shown": display_name, "at": disabled_at}) == 0:
        raise NotFound("principal", id)


def delete(tx: Connection, id: str) -> None:
    """Remove, with tokens and roles. What the audit log tells of it stays."""
    for statement in _deletions:
        tx.execute(statement, {"of": id})


def _one(row: Sequence[Any] | None, of: str) -> PrincipalRecord:
    if row is None:
        raise NotFound("principal", of)
    return PrincipalRecord(*row)
