"""Who is calling, and what they may do where: roles, each at a scope, and maybe a token that allows less."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from trainshed.identity.roles import OWN_ACTIONS, OWNER, WHO_AM_I, permits
from trainshed.identity.scopes import holds


class PrincipalKind(StrEnum):
    """As Azure calls them (``principalType``)."""

    USER = "User"
    SERVICE_PRINCIPAL = "ServicePrincipal"


@dataclass(frozen=True, slots=True)
class Grant:
    """A role at a scope (by its key)."""

    role: str
    scope_key: str


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who proved who they are."""

    #: Object id (GUID) and name of the principal.
    id: str
    name: str
    kind: PrincipalKind
    grants: tuple[Grant, ...] = ()
    #: The personal access token that was shown, and what it allows at most.
    token_id: str | None = None
    limit: Grant | None = None

    def may(self, action: str, scope_key: str) -> bool:
        """Whether the caller may do this there."""
        if action == WHO_AM_I:
            return True
        if self.limit is not None and not _allows(self.limit, action, scope_key):
            return False
        if action.startswith(OWN_ACTIONS):
            return True
        return any(_allows(grant, action, scope_key) for grant in self.grants)

    def may_somewhere_in(self, action: str, scope_key: str) -> bool:
        """Whether the caller may do this at the scope or at any scope below it."""
        places = {grant.scope_key for grant in self.grants}
        if self.limit is not None:
            places.add(self.limit.scope_key)
        return any(self.may(action, place) for place in (scope_key, *(p for p in places if holds(scope_key, p))))


def _allows(grant: Grant, action: str, scope_key: str) -> bool:
    return holds(grant.scope_key, scope_key) and permits(grant.role, action)


#: Whoever shows the token in ``admin.token``: the person who started the service.
ADMINISTRATOR = Caller(
    id="00000000-0000-0000-0000-000000000001",
    name="administrator",
    kind=PrincipalKind.USER,
    grants=(Grant(OWNER.name, "/"),),
)
