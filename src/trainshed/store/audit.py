"""Who changed what: append-only, the database refuses the rest."""

from __future__ import annotations

from sqlalchemy import Connection, and_, func, insert, select

from trainshed.store.records import AuditRecord, NewAudit
from trainshed.store.tables import audit as table

_append = insert(table).inline()


def append(tx: Connection, entry: NewAudit) -> None:
    """Add an entry."""
    tx.execute(
        _append,
        {
            "at": entry.at,
            "principal_id": entry.principal_id,
            "caller": entry.caller,
            "token_id": entry.token_id,
            "action": entry.action,
            "resource": entry.resource,
            "outcome": entry.outcome,
            "status": entry.status,
            "code": entry.code,
            "source": entry.source,
            "request_id": entry.request_id,
        },
    )


def page(
    tx: Connection,
    *,
    after_seq: int = 0,
    limit: int,
    newest_first: bool = False,
    caller: str | None = None,
    action: str | None = None,
    resource: str | None = None,
    below: str | None = None,
    outcome: str | None = None,
    since: int | None = None,
    until: int | None = None,
) -> list[AuditRecord]:
    """Entries after (with ``newest_first``: before) the sequence number ``after_seq``; 0 from the beginning.

    ``caller`` is a name or an object id; ``action`` and ``resource`` match what contains them, in any case; ``since``
    and ``until`` are Unix ms, the second exclusive; ``below`` is a path: entries of it and what it holds.
    """
    conditions = []
    if after_seq:
        conditions.append(table.c.seq < after_seq if newest_first else table.c.seq > after_seq)
    if caller is not None:
        conditions.append((table.c.caller == caller) | (table.c.principal_id == caller))
    if action is not None:
        conditions.append(table.c.action.icontains(action, autoescape=True))
    if resource is not None:
        conditions.append(table.c.resource.icontains(resource, autoescape=True))
    if below is not None:
        path = below.rstrip("/").lower()
        lowered = func.lower(table.c.resource)
        conditions.append((lowered == path) | lowered.startswith(f"{path}/", autoescape=True))
    if outcome is not None:
        conditions.append(table.c.outcome == outcome)
    if since is not None:
        conditions.append(table.c.at >= since)
    if until is not None:
        conditions.append(table.c.at < until)
    order = table.c.seq.desc() if newest_first else table.c.seq
    query = select(table).where(and_(True, *conditions)).order_by(order).limit(limit)
    return [AuditRecord(*row) for row in tx.execute(query)]
