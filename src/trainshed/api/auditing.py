"""The audit log: who changed what, with what outcome, from where.

A change and its entry are one transaction. What was refused or failed is noted afterwards; nothing was changed then.
"""

from __future__ import annotations

from starlette.requests import Request

from trainshed.api.errors import REQUEST_ID
from trainshed.identity import Caller
from trainshed.store.records import NewAudit

ACCEPTED, REFUSED, FAILED = "accepted", "refused", "failed"
_CHANGING = frozenset({"PUT", "PATCH", "DELETE", "POST"})
_LONGEST = 1024


def is_change(method: str) -> bool:
    """Whether requests of this method change things unless their endpoint says otherwise."""
    return method in _CHANGING


def entry(
    request: Request, caller: Caller, action: str, now: int, outcome: str, status: int | None = None,
    code: str | None = None,
) -> NewAudit:  # fmt: skip
    """An entry for this request. The resource is its path, without the query: links carry signatures there."""
    client = request.scope.get("client")
    return NewAudit(
        at=now,
        principal_id=caller.id,
        caller=caller.name,
        token_id=caller.token_id,
        action=action,
        resource=_plain(request.scope["path"]),
        outcome=outcome,
        status=status,
        code=code,
        source=_plain(str(client[0])) if client else "",
        request_id=str(request.scope.get(REQUEST_ID, "")),
    )


def _plain(text: str) -> str:
    """As the database can hold it: no NUL, no lone surrogates, not endless."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "?")[:_LONGEST]
