"""Personal access tokens: made, listed, revoked; one's own, and, for those who may, others' (2026-11-01)."""

from __future__ import annotations

from sqlalchemy import Connection
from starlette.responses import Response

from trainshed.api.access_views import token_view
from trainshed.api.answers import answer
from trainshed.api.call import Call
from trainshed.api.errors import ApiError, invalid_value
from trainshed.api.lookup import find
from trainshed.api.principals import required
from trainshed.identity import ADMINISTRATOR, Scope, access_tokens
from trainshed.identity.roles import OWNER, ROLES, role_named
from trainshed.resources import parsing
from trainshed.store import tokens
from trainshed.store.records import TokenRecord

_DAY_MS = 86_400_000


async def create(call: Call) -> Response:
    """POST: 201 with the token, which is never shown again."""
    wanted = parsing.parse_token(await call.body()).properties
    role, scope_key = _limit(wanted.role, wanted.scope)
    now = call.now()
    expires_at = now + wanted.expires_in_days * _DAY_MS
    made = access_tokens.make()
    inherited = call.caller.limit

    def store(tx: Connection) -> TokenRecord:
        expiry = expires_at
        if call.caller.token_id is not None:
            # Whoever found a token must not be able to stay longer with it.
            expiry = min(expiry, tokens.get(tx, call.caller.token_id).expires_at)
        record = TokenRecord(
            made.id, _principal_id(tx, call), wanted.display_name, made.digest, scope_key, role, now, expiry
        )  # fmt: skip
        tokens.insert(tx, record)
        return record

    if inherited is not None:
        raise ApiError(
            403,
            "AuthorizationFailed",
            "The token that was shown is limited to less than its owner may, so no other can be made with it. Use a "
            "token without limits, or sign in.",
        )
    record = await call.write(store)
    return answer(token_view(record, now, made.text), 201)


async def list_all(call: Call) -> Response:
    """GET: the newest first, those that are over too. None shows its text."""
    records = await call.read(lambda tx: tokens.of_principal(tx, _principal_id(tx, call)))
    return answer({"value": [token_view(record, call.now()) for record in records]})


async def revoke(call: Call) -> Response:
    """DELETE: the token is refused from now on; 204 when there is no such token."""
    token_id, now = call.part("token"), call.now()

    def store(tx: Connection) -> bool:
        record = find(tokens.get, tx, token_id)
        if record is None or record.principal_id != _principal_id(tx, call):
            return False
        tokens.revoke(tx, token_id, now)
        return True

    there = await call.write(store)
    call.services.authenticator.forget()
    return Response(status_code=200 if there else 204)


def _principal_id(tx: Connection, call: Call) -> str:
    """Whose tokens: the principal's in the path, or the caller's own. Raises ApiError 400, 404."""
    name = call.request.path_params.get("principal")
    if name is not None:
        return required(tx, name).id
    if call.caller.id == ADMINISTRATOR.id:
        raise ApiError(
            400,
            "AdministratorHasNoTokens",
            "The administrator's token lies in the file admin.token and there is no other. Make a principal of your "
            "own (trainshed user create NAME), give it a role, and make tokens for it (trainshed token create --user "
            "NAME).",
        )
    return call.caller.id


def _limit(role: str | None, scope: str | None) -> tuple[str | None, str | None]:
    if role is None and scope is None:
        return None, None
    known = OWNER if role is None else role_named(role)
    if known is None:
        raise invalid_value("properties.role", f"'{role}' is no role. Roles are: {', '.join(ROLES)}.")
    return known.name, Scope.parse(scope or "/").key
