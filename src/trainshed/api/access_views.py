"""Principals, tokens, role assignments and audit entries as JSON."""

from __future__ import annotations

from trainshed.identity import ADMINISTRATOR, Scope
from trainshed.identity.roles import ROLES, Role
from trainshed.resources.times import format_time
from trainshed.resources.views import Json
from trainshed.store.records import AuditRecord, PrincipalRecord, RoleAssignmentRecord, TokenRecord

_PRINCIPALS = "/providers/Trainshed.Identity/principals"


def principal_view(record: PrincipalRecord) -> Json:
    """``name`` is what roles are given by; ``id`` ends with the object id."""
    properties: Json = {
        "principalId": record.id,
        "kind": record.kind,
        "displayName": record.display_name,
        "disabled": record.disabled_at is not None,
        "creationTime": format_time(record.created_at),
    }
    if record.issuer is not None:
        properties |= {"issuer": record.issuer, "subject": record.subject}
    return {
        "id": f"{_PRINCIPALS}/{record.id}",
        "name": record.name,
        "type": "Trainshed.Identity/principals",
        "properties": properties,
    }


def token_view(record: TokenRecord, now: int, text: str | None = None) -> Json:
    """A token without its text; with it only in the answer that made it."""
    state = "revoked" if record.revoked_at is not None else "expired" if record.expires_at <= now else "active"
    properties: Json = {
        "displayName": record.name,
        "state": state,
        "creationTime": format_time(record.created_at),
        "expiryTime": format_time(record.expires_at),
    }
    if record.revoked_at is not None:
        properties["revocationTime"] = format_time(record.revoked_at)
    if record.last_used_at is not None:
        properties["lastUseTime"] = format_time(record.last_used_at)
    if record.role is not None:
        properties |= {"role": record.role, "scope": str(Scope.of_key(record.scope_key or "/"))}
    if text is not None:
        properties["token"] = text
    return {
        "id": f"{_PRINCIPALS}/{record.principal_id}/tokens/{record.id}",
        "name": record.id,
        "type": "Trainshed.Identity/principals/tokens",
        "properties": properties,
    }


def role_definition_view(role: Role, scope: Scope) -> Json:
    """As Microsoft.Authorization writes it."""
    return {
        "id": role_definition_id(role, scope),
        "name": role.id,
        "type": "Microsoft.Authorization/roleDefinitions",
        "properties": {
            "roleName": role.name,
            "description": role.description,
            "type": "BuiltInRole",
            "assignableScopes": ["/"],
            "permissions": [{"actions": list(role.actions), "notActions": list(role.not_actions)}],
        },
    }


def role_definition_id(role: Role, scope: Scope) -> str:
    """Below the subscription where there is one, as Azure's."""
    base = f"/subscriptions/{scope.subscription}" if scope.subscription else ""
    return f"{base}/providers/Microsoft.Authorization/roleDefinitions/{role.id}"


def role_assignment_view(record: RoleAssignmentRecord, principal: PrincipalRecord | None) -> Json:
    """As Microsoft.Authorization writes it, and the names of role and principal."""
    scope = Scope.parse(record.scope)
    made = format_time(record.created_at)
    properties: Json = {
        "scope": record.scope,
        "roleDefinitionId": role_definition_id(ROLES[record.role], scope),
        "roleName": record.role,
        "principalId": record.principal_id,
        "createdOn": made,
        "updatedOn": made,
        "createdBy": record.created_by,
        "updatedBy": record.created_by,
    }
    if principal is not None:
        properties |= {"principalType": principal.kind, "principalName": principal.name}
    return {
        "id": f"{record.scope.rstrip('/')}/providers/Microsoft.Authorization/roleAssignments/{record.id}",
        "name": record.id,
        "type": "Microsoft.Authorization/roleAssignments",
        "properties": properties,
    }


def audit_view(record: AuditRecord) -> Json:
    """One entry."""
    view: Json = {
        "sequence": record.seq,
        "time": format_time(record.at),
        "caller": record.caller,
        "action": record.action,
        "resource": record.resource,
        "outcome": record.outcome,
        "source": record.source,
        "requestId": record.request_id,
    }
    if record.principal_id is not None:
        view["principalId"] = record.principal_id
    if record.token_id is not None:
        view["tokenId"] = record.token_id
    if record.status is not None:
        view["status"] = record.status
    if record.code is not None:
        view["code"] = record.code
    return view


def own_view(name: str, id: str, kind: str, roles: list[Json], token_id: str | None, limit: Json | None) -> Json:
    """Who the caller is to the service."""
    properties: Json = {"principalId": id, "kind": kind, "administrator": id == ADMINISTRATOR.id, "roles": roles}
    if token_id is not None:
        properties["tokenId"] = token_id
    if limit is not None:
        properties["tokenAllows"] = limit
    return {"id": f"{_PRINCIPALS}/{id}", "name": name, "type": "Trainshed.Identity/me", "properties": properties}
