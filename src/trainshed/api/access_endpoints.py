"""Endpoints for callers: principals, tokens, roles at every kind of scope, the audit log."""

from __future__ import annotations

from collections.abc import Iterator

from trainshed.api import access_tokens, audit_log, principals, role_assignments
from trainshed.api.authorization import Reach
from trainshed.api.routing import Endpoint

_AUTHORIZATION = "Microsoft.Authorization"
_IDENTITY = "Trainshed.Identity"
_SUBSCRIPTION = "/subscriptions/{subscription}"
_GROUP = f"{_SUBSCRIPTION}/resourceGroups/{{group}}"
_SCOPES = {
    "AtService": "",
    "AtSubscription": _SUBSCRIPTION,
    "AtGroup": _GROUP,
    "AtWorkspace": f"{_GROUP}/providers/Microsoft.BatchAI/workspaces/{{workspace}}",
}
_PRINCIPALS = f"/providers/{_IDENTITY}/principals"
_PRINCIPAL = f"{_PRINCIPALS}/{{principal}}"
_ME = f"/providers/{_IDENTITY}/me"
_AUDIT = ("scope", "caller", "action", "resource", "outcome", "since", "until", "order", "maxresults")


def _roles(suffix: str, scope: str) -> Iterator[Endpoint]:
    base = f"{scope}/providers/{_AUTHORIZATION}"
    assignments, definitions = f"{base}/roleAssignments", f"{base}/roleDefinitions"
    one = f"{assignments}/{{assignment}}"
    action = f"{_AUTHORIZATION}/roleAssignments"
    yield Endpoint(
        "PUT", one, role_assignments.create, f"RoleAssignments_Create{suffix}", "RoleAssignmentCreate",
        "RoleAssignment", (200, 201), action=f"{action}/write",
    )  # fmt: skip
    yield Endpoint(
        "GET", one, role_assignments.get, f"RoleAssignments_Get{suffix}", answer="RoleAssignment",
        action=f"{action}/read",
    )  # fmt: skip
    yield Endpoint(
        "DELETE", one, role_assignments.delete, f"RoleAssignments_Delete{suffix}", answer="RoleAssignment",
        statuses=(200, 204), action=f"{action}/delete",
    )  # fmt: skip
    yield Endpoint(
        "GET", assignments, role_assignments.list_all, f"RoleAssignments_List{suffix}", answer="RoleAssignmentList",
        query=("$filter",), action=f"{action}/read",
    )  # fmt: skip
    yield Endpoint(
        "GET", definitions, role_assignments.list_definitions, f"RoleDefinitions_List{suffix}",
        answer="RoleDefinitionList", query=("$filter",), action=f"{_AUTHORIZATION}/roleDefinitions/read",
    )  # fmt: skip
    yield Endpoint(
        "GET", f"{definitions}/{{role}}", role_assignments.get_definition, f"RoleDefinitions_Get{suffix}",
        answer="RoleDefinition", action=f"{_AUTHORIZATION}/roleDefinitions/read",
    )  # fmt: skip


def _tokens(suffix: str, base: str, action: str) -> Iterator[Endpoint]:
    yield Endpoint("GET", base, access_tokens.list_all, f"Tokens_List{suffix}", answer="TokenList", newer=True,
                   action=f"{action}/read")  # fmt: skip
    yield Endpoint("POST", base, access_tokens.create, f"Tokens_Create{suffix}", "TokenCreate", "Token", (201,),
                   newer=True, action=f"{action}/write")  # fmt: skip
    yield Endpoint("DELETE", f"{base}/{{token}}", access_tokens.revoke, f"Tokens_Revoke{suffix}", statuses=(200, 204),
                   newer=True, action=f"{action}/delete")  # fmt: skip


ACCESS_ENDPOINTS: tuple[Endpoint, ...] = (
    *(endpoint for suffix, scope in _SCOPES.items() for endpoint in _roles(suffix, scope)),
    Endpoint("GET", _ME, principals.whoami, "Me_Get", answer="Me", newer=True, action=f"{_IDENTITY}/me/read"),
    *_tokens("OfMe", f"{_ME}/tokens", f"{_IDENTITY}/me/tokens"),
    Endpoint("GET", _PRINCIPALS, principals.list_all, "Principals_List", answer="PrincipalList",
             query=("maxresults",), newer=True, action=f"{_IDENTITY}/principals/read"),
    Endpoint("PUT", _PRINCIPAL, principals.create, "Principals_Create", "PrincipalCreate", "Principal", (200, 201),
             newer=True, action=f"{_IDENTITY}/principals/write"),
    Endpoint("GET", _PRINCIPAL, principals.get, "Principals_Get", answer="Principal", newer=True,
             action=f"{_IDENTITY}/principals/read"),
    Endpoint("DELETE", _PRINCIPAL, principals.delete, "Principals_Delete", statuses=(200, 204), newer=True,
             action=f"{_IDENTITY}/principals/delete"),
    *_tokens("OfPrincipal", f"{_PRINCIPAL}/tokens", f"{_IDENTITY}/principals/tokens"),
    Endpoint("GET", "/providers/Trainshed.Audit/entries", audit_log.list_entries, "Audit_List", answer="AuditList",
             query=_AUDIT, newer=True, action=audit_log.ACTION, reach=Reach.WITHIN),
)  # fmt: skip
