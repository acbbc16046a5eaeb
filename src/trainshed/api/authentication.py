"""From a bearer token to a caller: the administrator's token, a personal access token, or an OpenID issuer's."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from sqlalchemy import Connection

from trainshed.api.errors import GATEWAY, ApiError
from trainshed.api.lookup import find
from trainshed.identity import ADMINISTRATOR, Caller, Grant, PrincipalKind, Tokens, access_tokens
from trainshed.identity.oidc import Identity, IssuerUnavailable, TokenRefused, Verifier, looks_like_jwt
from trainshed.store import principals, role_assignments
from trainshed.store import tokens as token_store
from trainshed.store.database import Database
from trainshed.store.records import PrincipalRecord, TokenRecord

#: Seconds for which another API process may still honour what this one has changed. Here a change counts at once.
_REMEMBERED_SECONDS = 5.0
_REMEMBERED_CALLERS = 2048
#: Milliseconds between two notes that a token was used.
_USE_NOTED_MS = 60_000


@dataclass(frozen=True, slots=True)
class _Known:
    caller: Caller
    until: float


class Authenticator:
    """Knows who shows which token."""

    def __init__(self, db: Database, tokens: Tokens, verifier: Verifier | None, now_ms: Callable[[], int]) -> None:
        self._db = db
        self._tokens = tokens
        self._verifier = verifier
        self._now_ms = now_ms
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        #: Counts changes: what was looked up before one is not remembered after it.
        self._epoch = 0

    def forget(self) -> None:
        """Callers, their roles or tokens have changed: look everything up again."""
        self._epoch += 1
        self._known.clear()

    async def caller_of(self, authorization: str) -> Caller:
        """Who sent this ``Authorization`` header. Raises ApiError 401, and 503 when an issuer's keys cannot be had."""
        scheme, _, token = authorization.partition(" ")
        token = token.strip()
        if not authorization:
            raise _unauthenticated("carries no bearer token")
        if scheme.lower() != "bearer" or not token:
            raise _unauthenticated("is not of the form 'Bearer TOKEN'")
        if self._tokens.accepts(token):
            return ADMINISTRATOR
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        known = self._known.get(digest)
        if known is not None and time.monotonic() < known.until:
            return known.caller
        epoch = self._epoch
        caller = await self._look_up(token)
        if epoch == self._epoch:
            self._known[digest] = _Known(caller, time.monotonic() + _REMEMBERED_SECONDS)
            while len(self._known) > _REMEMBERED_CALLERS:
                self._known.popitem(last=False)
        return caller

    async def _look_up(self, token: str) -> Caller:
        token_id = access_tokens.id_of(token)
        if token_id is not None:
            return await self._of_access_token(token, token_id)
        if self._verifier is not None and looks_like_jwt(token):
            try:
                identity = await self._verifier.identify(token)
            except TokenRefused as refusal:
                raise _unauthenticated(f"carries a token that is not valid: {refusal}") from None
            except IssuerUnavailable as error:
                raise ApiError(
                    503,
                    "IdentityProviderUnavailable",
                    f"The token cannot be checked: {error}. Try again in a moment, or use a personal access token.",
                    headers={"Retry-After": "10", **GATEWAY},
                ) from None
            return await self._of_identity(identity)
        raise _unauthenticated("carries a token that is not valid")

    async def _of_access_token(self, text: str, token_id: str) -> Caller:
        def query(tx: Connection) -> tuple[TokenRecord, PrincipalRecord, tuple[Grant, ...]] | None:
            token = find(token_store.get, tx, token_id)
            if token is None:
                return None
            return token, principals.get(tx, token.principal_id), _grants(tx, token.principal_id)

        found = await self._db.read(query)
        now = self._now_ms()
        if found is None or not access_tokens.matches(text, found[0].digest):
            raise _unauthenticated("carries a token that is not valid")
        token, principal, grants = found
        if token.revoked_at is not None:
            raise _unauthenticated("carries a token that was revoked")
        if token.expires_at <= now:
            raise _unauthenticated("carries a token that has expired; make a new one (trainshed token create)")
        if token.last_used_at is None or now - token.last_used_at >= _USE_NOTED_MS:
            await self._db.write(lambda tx: token_store.used(tx, token.id, now))
        limited = token.role is not None and token.scope_key is not None
        limit = Grant(token.role or "", token.scope_key or "/") if limited else None
        return _caller(principal, grants, token.id, limit)

    async def _of_identity(self, identity: Identity) -> Caller:
        """Whoever a trusted issuer vouches for becomes a principal when first seen, without any role."""

        def query(tx: Connection) -> tuple[PrincipalRecord, tuple[Grant, ...]] | None:
            known = find(lambda tx, key: principals.get_by_subject(tx, *key), tx, (identity.issuer, identity.subject))
            return None if known is None else (known, _grants(tx, known.id))

        found = await self._db.read(query)
        if found is None:
            now = self._now_ms()
            found = await self._db.write(lambda tx: query(tx) or (_introduce(tx, identity, now), ()))
        return _caller(*found)


def _caller(
    principal: PrincipalRecord, grants: tuple[Grant, ...], token_id: str | None = None, limit: Grant | None = None
) -> Caller:
    if principal.disabled_at is not None:
        raise _unauthenticated("carries a token of somebody who is locked out")
    return Caller(principal.id, principal.name, PrincipalKind(principal.kind), grants, token_id, limit)


def _grants(tx: Connection, principal_id: str) -> tuple[Grant, ...]:
    return tuple(Grant(entry.role, entry.scope_key) for entry in role_assignments.of_principal(tx, principal_id))


def _introduce(tx: Connection, identity: Identity, now: int) -> PrincipalRecord:
    host = urlsplit(identity.issuer).hostname or "issuer"
    candidates = [identity.name, f"{identity.name}@{host}", f"{identity.name}@{host}#{identity.subject}"]
    free = [
        name
        for name in candidates
        if name != ADMINISTRATOR.name and find(principals.get_by_name, tx, name) is None
    ]  # fmt: skip
    record = PrincipalRecord(
        id=str(uuid.uuid4()),
        kind=(PrincipalKind.SERVICE_PRINCIPAL if identity.is_program else PrincipalKind.USER).value,
        name=free[0] if free else str(uuid.uuid4()),
        display_name=identity.display_name,
        issuer=identity.issuer,
        subject=identity.subject,
        disabled_at=None,
        created_at=now,
    )
    principals.insert(tx, record)
    return record


def _unauthenticated(problem: str) -> ApiError:
    return ApiError(
        401,
        "AuthenticationFailed",
        f"Authentication failed: the Authorization header {problem}. Send 'Authorization: Bearer TOKEN' with a "
        "personal access token, your OpenID provider's token, or, as the administrator, the token in the file "
        "admin.token of the service's home directory (clients: TRAINSHED_TOKEN).",
        target="Authorization",
        headers={"WWW-Authenticate": 'Bearer realm="trainshed"', **GATEWAY},
    )
