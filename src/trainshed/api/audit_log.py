"""Reading the audit log (2026-11-01)."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Connection
from starlette.responses import Response

from trainshed.api import auditing
from trainshed.api.access_views import audit_view
from trainshed.api.answers import JSON
from trainshed.api.call import Call
from trainshed.api.errors import invalid_value
from trainshed.api.paging import page, page_request
from trainshed.identity import Scope
from trainshed.store import audit

ACTION = "Trainshed.Audit/entries/read"
_OUTCOMES = (auditing.ACCEPTED, auditing.REFUSED, auditing.FAILED)


async def list_entries(call: Call) -> Response:
    """GET: changes at ``scope`` and below, oldest first; with ``order=newest`` the newest first."""
    query = call.query
    scope = Scope.parse(query.get("scope") or "/")
    call.require(ACTION, scope)
    asked = page_request(call)
    outcome = query.get("outcome") or None
    if outcome is not None and outcome not in _OUTCOMES:
        raise invalid_value("outcome", f"The outcome must be one of: {', '.join(_OUTCOMES)}.")
    order = query.get("order") or "oldest"
    if order not in ("oldest", "newest"):
        raise invalid_value("order", "The order must be oldest or newest.")
    since, until = _time(call, "since"), _time(call, "until")

    def read(tx: Connection) -> bytes:
        rows = audit.page(
            tx,
            after_seq=asked.after_number(),
            limit=asked.one_more,
            newest_first=order == "newest",
            caller=query.get("caller") or None,
            action=query.get("action") or None,
            resource=query.get("resource") or None,
            below=str(scope) if scope.subscription else None,
            outcome=outcome,
            since=since,
            until=until,
        )
        return page(call, asked, rows, audit_view, lambda record: record.seq)

    return Response(await call.read(read), media_type=JSON)


def _time(call: Call, name: str) -> int | None:
    text = call.query.get(name)
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise invalid_value(name, f"'{text[:50]}' is not a time. Give for example 2026-11-21T08:00:00Z.") from None
