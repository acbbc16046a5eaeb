"""Who may call and what they may do: principals, tokens, roles, and the audit log."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

from trainshed.client.effects import Emit, Steps
from trainshed.client.models import Record, Resource, parse_time
from trainshed.client.noun import M, Noun, listing, operation
from trainshed.client.transport import pages, request, send

_IDENTITY = "/providers/Trainshed.Identity"
_AUTHORIZATION = "providers/Microsoft.Authorization"


@dataclass(frozen=True, slots=True)
class Principal(Resource):
    """Somebody who may call."""

    @property
    def object_id(self) -> str:
        return str(self.properties.get("principalId", ""))

    @property
    def kind(self) -> str:
        return str(self.properties.get("kind", ""))

    @property
    def display_name(self) -> str:
        return str(self.properties.get("displayName", ""))

    @property
    def disabled(self) -> bool:
        return bool(self.properties.get("disabled"))


@dataclass(frozen=True, slots=True)
class Token(Resource):
    """A personal access token; ``text`` only right after it was made."""

    @property
    def display_name(self) -> str:
        return str(self.properties.get("displayName", ""))

    @property
    def state(self) -> str:
        return str(self.properties.get("state", ""))

    @property
    def text(self) -> str | None:
        return self.properties.get("token")

    @property
    def expires(self) -> datetime | None:
        return parse_time(self.properties.get("expiryTime"))

    @property
    def last_used(self) -> datetime | None:
        return parse_time(self.properties.get("lastUseTime"))


@dataclass(frozen=True, slots=True)
class RoleAssignment(Resource):
    """Somebody's role at a scope."""

    @property
    def role(self) -> str:
        return str(self.properties.get("roleName", ""))

    @property
    def principal(self) -> str:
        return str(self.properties.get("principalName") or self.properties.get("principalId", ""))

    @property
    def assigned_at(self) -> str:
        return str(self.properties.get("scope", ""))


@dataclass(frozen=True, slots=True)
class RoleDefinition(Resource):
    """A role and what it allows."""

    @property
    def role(self) -> str:
        return str(self.properties.get("roleName", ""))

    @property
    def description(self) -> str:
        return str(self.properties.get("description", ""))


class Principals(Noun[M]):
    """People and programs that may call."""

    @operation
    def me(self) -> Steps[Resource]:
        """Who this client is to the service, and its roles."""
        return Resource((yield from send(request("GET", f"{_IDENTITY}/me"))).json())

    @operation
    def create(
        self, name: str, *, kind: str | None = None, display_name: str | None = None, disabled: bool = False
    ) -> Steps[Principal]:
        """Make one, or change its display name and whether it is locked out."""
        properties: dict[str, Any] = {"disabled": disabled}
        if kind is not None:
            properties["kind"] = kind
        if display_name is not None:
            properties["displayName"] = display_name
        reply = yield from send(request("PUT", _principal(name), body={"properties": properties}))
        return Principal(reply.json())

    @operation
    def get(self, name: str) -> Steps[Principal]:
        """By name or object id. Raises NotFoundError."""
        return Principal((yield from send(request("GET", _principal(name)))).json())

    @listing(Principal)
    def list(self) -> Steps[None]:
        """All, in order of their names."""
        yield from pages(request("GET", f"{_IDENTITY}/principals"), Principal)

    @operation
    def delete(self, name: str) -> Steps[bool]:
        """Remove it with its tokens and roles. False when it was not there."""
        return (yield from send(request("DELETE", _principal(name)))).status != 204


class Tokens(Noun[M]):
    """Personal access tokens: one's own, or with ``user`` somebody else's."""

    @operation
    def create(
        self,
        display_name: str,
        *,
        days: int = 30,
        user: str | None = None,
        role: str | None = None,
        scope: str | None = None,
    ) -> Steps[Token]:
        """Make one; its ``text`` is never to be had again. ``role`` and ``scope`` limit what it allows."""
        properties: dict[str, Any] = {"displayName": display_name, "expiresInDays": days}
        properties |= {name: value for name, value in {"role": role, "scope": scope}.items() if value is not None}
        reply = yield from send(request("POST", _tokens(user), body={"properties": properties}))
        return Token(reply.json())

    @listing(Token)
    def list(self, *, user: str | None = None) -> Steps[None]:
        """The newest first, those that are over too."""
        yield from pages(request("GET", _tokens(user)), Token)

    @operation
    def revoke(self, id: str, *, user: str | None = None) -> Steps[bool]:
        """End it at once. False when there is no such token."""
        reply = yield from send(request("DELETE", f"{_tokens(user)}/{quote(id, safe='')}"))
        return reply.status != 204


class Roles(Noun[M]):
    """Roles, and who holds them where. A scope is an ARM path; ``/`` is the whole service."""

    @listing(RoleDefinition)
    def definitions(self, scope: str = "/") -> Steps[None]:
        """The roles that there are."""
        yield from pages(request("GET", f"{scope.rstrip('/')}/{_AUTHORIZATION}/roleDefinitions"), RoleDefinition)

    @operation
    def assign(self, principal: str, role: str, scope: str) -> Steps[RoleAssignment]:
        """Give a role; the same again is the assignment that is there."""
        reply = yield from send(request("GET", _assignments(scope), query={"$filter": "atScope()"}))
        for entry in map(RoleAssignment, reply.json()["value"]):
            held = entry.role.lower() == role.lower() and entry.assigned_at.lower() == scope.lower()
            if held and principal in (entry.principal, entry.properties.get("principalId")):
                return entry
        body = {"properties": {"roleDefinitionId": role, "principalId": principal}}
        reply = yield from send(request("PUT", f"{_assignments(scope)}/{uuid.uuid4()}", body=body))
        return RoleAssignment(reply.json())

    @listing(RoleAssignment)
    def list(self, scope: str = "/", *, principal: str | None = None) -> Steps[None]:
        """Those that count at the scope, and those below it; all, or one principal's."""
        wanted = None if principal is None else "principalId eq '{}'".format(principal.replace("'", "''"))
        asked = request("GET", _assignments(scope), query={"$filter": wanted})
        yield from pages(asked, RoleAssignment)

    @operation
    def remove(self, principal: str, role: str, scope: str) -> Steps[bool]:
        """Take a role away. False when it was not held there."""
        reply = yield from send(request("GET", _assignments(scope), query={"$filter": "atScope()"}))
        for entry in map(RoleAssignment, reply.json()["value"]):
            held = entry.role.lower() == role.lower() and entry.assigned_at.lower() == scope.lower()
            if held and principal in (entry.principal, entry.properties.get("principalId")):
                yield from send(request("DELETE", f"{_assignments(scope)}/{entry.name}"))
                return True
        return False


class Audit(Noun[M]):
    """Who changed what."""

    @listing(Record)
    def list(
        self, filters: Mapping[str, str | None] | None = None, *, newest_first: bool = False, limit: int | None = None
    ) -> Steps[None]:
        """Entries. Filters: scope, caller, action, resource, outcome, since, until (times in ISO 8601)."""
        query = dict(filters or {}) | {
            "order": "newest" if newest_first else None,
            "maxresults": None if limit is None else str(min(limit, 1000)),
        }
        entries = pages(request("GET", "/providers/Trainshed.Audit/entries", query=query), Record)
        left = limit
        answer: Any = None
        try:
            while True:
                effect = entries.send(answer)
                if isinstance(effect, Emit) and left is not None:
                    if left == 0:
                        return
                    left -= 1
                answer = yield effect
        except StopIteration:
            return


def _principal(name: str) -> str:
    return f"{_IDENTITY}/principals/{quote(name, safe='@')}"


def _tokens(user: str | None) -> str:
    return f"{_IDENTITY}/me/tokens" if user is None else f"{_principal(user)}/tokens"


def _assignments(scope: str) -> str:
    return f"{scope.rstrip('/')}/{_AUTHORIZATION}/roleAssignments"
