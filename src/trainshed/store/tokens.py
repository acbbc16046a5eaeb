"""Personal access tokens: digests, and what becomes of them."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, select, update
from sqlalchemy import insert as insert_into

from trainshed.store._statements import first, refused_as, rows_changed
from trainshed.store.errors import AlreadyExists, NotFound
from trainshed.store.records import TokenRecord
from trainshed.store.tables import tokens as table

_insert = insert_into(table).inline()
_get = select(table).where(table.c.id == bindparam("of"))
_of_principal = (
    select(table).where(table.c.principal_id == bindparam("of")).order_by(table.c.created_at.desc(), table.c.id)
)
_revoke = (
    update(table).where(table.c.id == bindparam("of"), table.c.revoked_at.is_(None)).values(revoked_at=bindparam("at"))
)
_used = update(table).where(table.c.id == bindparam("of")).values(last_used_at=bindparam("at"))


def insert(tx: Connection, token: TokenRecord) -> None:
    """Store a new one. Raises AlreadyExists."""
    with refused_as(tx, lambda: AlreadyExists("token", token.id)):
        tx.execute(
            _insert,
            {
                "id": token.id,
                "principal_id": token.principal_id,
                "name": token.name,
                "digest": token.digest,
                "scope": token.scope_key,
                "role": token.role,
                "created_at": token.created_at,
                "expires_at": token.expires_at,
                "revoked_at": token.revoked_at,
                "last_used_at": token.last_used_at,
            },
        )


def get(tx: Connection, id: str) -> TokenRecord:
    """Raises NotFound."""
    row = first(tx, _get, {"of": id})
    if row is None:
        raise NotFound("token", id)
    return TokenRecord(*row)


def of_principal(tx: Connection, principal_id: str) -> list[TokenRecord]:
    """The newest first, those that are over too."""
    return [TokenRecord(*row) for row in tx.execute(_of_principal, {"of": principal_id})]


def revoke(tx: Connection, id: str, now: int) -> bool:
    """End it for good; whether it was not ended already. Raises NotFound."""
    if rows_changed(tx, _revoke, {"of": id, "at": now}):
        return True
    get(tx, id)
    return False


def used(tx: Connection, id: str, now: int) -> None:
    """Note when it was shown last."""
    rows_changed(tx, _used, {"of": id, "at": now})
