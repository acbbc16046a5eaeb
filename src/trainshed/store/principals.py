"""Who may call: people and programs. The administrator of ``admin.token`` is not among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, func, select, update
from sqlalchemy import insert as insert_into

from trainshed.store._statements import first, refused_as, rows_changed
from trainshed.store.errors import AlreadyExists, NotFound
from trainshed.store.records import PrincipalRecord
from trainshed.store.tables import principals as table

_insert = insert_into(table).inline()
_get = select(table).where(table.c.id == bindparam("of"))
_get_by_name = select(table).where(table.c.name == bindparam("of"))
_get_by_subject = select(table).where(table.c.issuer == bindparam("issuer"), table.c.subject == bindparam("subject"))
_page = select(table).where(table.c.name > bindparam("after")).order_by(table.c.name).limit(bindparam("limit"))
_count = select(func.count()).select_from(table)
_set_disabled = update(table).where(table.c.id == bindparam("of")).values(disabled_at=bindparam("at"))


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


def set_disabled(tx: Connection, id: str, at: int | None) -> None:
    """Lock out from the time given (Unix ms), or let in again (None). Raises NotFound."""
    if rows_changed(tx, _set_disabled, {"of": id, "at": at}) == 0:
        raise NotFound("principal", id)


def _one(row: Sequence[Any] | None, of: str) -> PrincipalRecord:
    if row is None:
        raise NotFound("principal", of)
    return PrincipalRecord(*row)
