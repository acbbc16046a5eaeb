"""Callers with roles, made straight in the database."""

from __future__ import annotations

import uuid

from sqlalchemy import Connection

from tests.api.service import Service
from trainshed.identity import Scope, access_tokens
from trainshed.store import principals, role_assignments, tokens
from trainshed.store.records import PrincipalRecord, RoleAssignmentRecord, TokenRecord

DAY = 86_400_000


def make_caller(
    service: Service,
    name: str,
    *roles: tuple[str, str],
    limit: tuple[str, str] | None = None,
    days: int = 30,
) -> str:
    """A principal that holds ``(role, scope)``s; its token, limited to ``limit``."""
    made = access_tokens.make()
    id, now = str(uuid.uuid4()), service.clock()

    def change(tx: Connection) -> None:
        principals.insert(tx, PrincipalRecord(id, "User", name, name, None, None, None, now))
        for role, scope in roles:
            key = Scope.parse(scope).key
            role_assignments.insert(
                tx, RoleAssignmentRecord(str(uuid.uuid4()), key, scope, id, role, now, "test")
            )  # fmt: skip
        role, scope_key = (limit[0], Scope.parse(limit[1]).key) if limit else (None, None)
        tokens.insert(
            tx, TokenRecord(made.id, id, "test", made.digest, scope_key, role, now, now + days * DAY)
        )  # fmt: skip

    service.db.write_sync(change)
    service.services.authenticator.forget()
    return made.text
