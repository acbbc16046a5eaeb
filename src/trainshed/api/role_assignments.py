"""Role assignments and definitions, in the shape of Microsoft.Authorization, at every kind of scope."""

from __future__ import annotations

import re
from collections.abc import Callable

from sqlalchemy import Connection
from starlette.responses import Response

from trainshed.api import groups
from trainshed.api.access_views import role_assignment_view, role_definition_view
from trainshed.api.answers import answer
from trainshed.api.call import Call
from trainshed.api.errors import ApiError, invalid_value, not_found
from trainshed.api.lookup import find
from trainshed.api.principals import look_up
from trainshed.identity import Scope
from trainshed.identity.roles import ROLES, Role, role_named
from trainshed.resources import ids, parsing
from trainshed.resources.access import is_guid
from trainshed.resources.ids import Kind
from trainshed.resources.views import Json
from trainshed.store import principals, role_assignments, workspaces
from trainshed.store.records import PrincipalRecord, RoleAssignmentRecord

_EQUALS = re.compile(r"\s*(principalId|roleName)\s+eq\s+'((?:[^']|'')*)'\s*", re.IGNORECASE)
_ASSIGNED_TO = re.compile(r"\s*assignedTo\(\s*'((?:[^']|'')*)'\s*\)\s*", re.IGNORECASE)
_AT_SCOPE = re.compile(r"\s*atScope\(\)\s*", re.IGNORECASE)


async def create(call: Call) -> Response:
    """PUT: 201; 200 for the same again."""
    scope, assignment_id = scope_of(call), _assignment_id(call)
    wanted = parsing.parse_role_assignment(await call.body()).properties
    role = _role(wanted.role_definition_id)
    now, assigner = call.now(), call.caller.id

    def store(tx: Connection) -> tuple[int, Json]:
        _require_place(tx, scope)
        principal = look_up(tx, wanted.principal_id)
        if principal is None:
            raise ApiError(
                400,
                "PrincipalNotFound",
                f"There is no principal '{wanted.principal_id[:128]}'. Make it first (trainshed user create), or, "
                "where an OpenID provider knows it, let it call once.",
                target="properties.principalId",
            )
        made = RoleAssignmentRecord(assignment_id, scope.key, str(scope), principal.id, role.name, now, assigner)
        existing = find(role_assignments.get, tx, assignment_id)
        if existing is None:
            same = role_assignments.same(tx, scope.key, principal.id, role.name)
            if same is not None:
                raise ApiError(
                    409,
                    "RoleAssignmentExists",
                    f"The role assignment exists already, as {same.id}: '{principal.name}' is {role.name} here.",
                )
            role_assignments.insert(tx, made)
            return 201, role_assignment_view(made, principal)
        if (existing.scope_key, existing.principal_id, existing.role) != (scope.key, principal.id, role.name):
            raise ApiError(
                409,
                "RoleAssignmentUpdateNotPermitted",
                f"The role assignment {assignment_id} says something else, and cannot be changed. Use another id.",
            )
        return 200, role_assignment_view(existing, principal)

    status, view = await call.write(store)
    call.services.authenticator.forget()
    return answer(view, status)


async def get(call: Call) -> Response:
    """GET one that was made at this scope."""
    scope, assignment_id = scope_of(call), _assignment_id(call)

    def query(tx: Connection) -> Json:
        record = find(role_assignments.get, tx, assignment_id)
        if record is None or record.scope_key != scope.key:
            raise ApiError(
                404, "RoleAssignmentNotFound", f"The role assignment '{assignment_id}' is not found at this scope."
            )
        return role_assignment_view(record, find(principals.get, tx, record.principal_id))

    return answer(await call.read(query))


async def list_all(call: Call) -> Response:
    """GET those that count at this scope, and, unless ``$filter`` is ``atScope()``, those below it."""
    scope = scope_of(call)
    only_here, wanted = _filter(call.query.get("$filter", ""))

    def query(tx: Connection) -> list[Json]:
        rows = role_assignments.that_count_at(tx, scope.key)
        if not only_here:
            known = {row.id for row in rows}
            rows += [row for row in role_assignments.at_or_below(tx, scope.key) if row.id not in known]
        named = {row.principal_id: find(principals.get, tx, row.principal_id) for row in rows}
        return [role_assignment_view(row, named[row.principal_id]) for row in rows if wanted(row, named)]

    return answer({"value": await call.read(query)})


async def delete(call: Call) -> Response:
    """DELETE: 200 with what was taken away, 204 when there was nothing."""
    scope, assignment_id = scope_of(call), _assignment_id(call)

    def store(tx: Connection) -> Json | None:
        record = find(role_assignments.get, tx, assignment_id)
        if record is None or record.scope_key != scope.key:
            return None
        view = role_assignment_view(record, find(principals.get, tx, record.principal_id))
        role_assignments.delete(tx, assignment_id)
        return view

    view = await call.write(store)
    call.services.authenticator.forget()
    return Response(status_code=204) if view is None else answer(view)


async def list_definitions(call: Call) -> Response:
    """GET the roles; ``$filter`` may be ``roleName eq 'NAME'``."""
    scope = scope_of(call)
    text = call.query.get("$filter", "")
    match = _EQUALS.fullmatch(text)
    if text and (match is None or match[1].lower() != "rolename"):
        raise invalid_value("$filter", "The $filter must be: roleName eq 'NAME'.")
    shown = [role for role in ROLES.values() if match is None or role.name.lower() == match[2].lower()]
    return answer({"value": [role_definition_view(role, scope) for role in shown]})


async def get_definition(call: Call) -> Response:
    """GET a role by its id or name."""
    role = role_named(call.part("role"))
    if role is None:
        raise ApiError(
            404, "RoleDefinitionDoesNotExist", f"There is no such role. Roles are: {', '.join(ROLES)}."
        )  # fmt: skip
    return answer(role_definition_view(role, scope_of(call)))


def scope_of(call: Call) -> Scope:
    """The scope that the path names. Raises InvalidResource for names that nothing can have."""
    names = call.request.path_params
    if "subscription" not in names:
        return Scope()
    scope = Scope(call.subscription)
    if "group" in names:
        scope = Scope(scope.subscription, call.group)
    if "workspace" in names:
        scope = Scope(scope.subscription, scope.group, call.name("workspace"))
    return scope


def _require_place(tx: Connection, scope: Scope) -> None:
    """A role on what does not exist would count for whoever makes it later."""
    if scope.group:
        groups.required(tx, ids.resource_group_key(scope.subscription, scope.group), scope.group)
    if scope.workspace:
        key = ids.workspace_key(scope.subscription, scope.group, scope.workspace)
        if find(workspaces.get, tx, key) is None:
            raise not_found(Kind.WORKSPACE, scope.workspace)


def _assignment_id(call: Call) -> str:
    given = call.part("assignment")
    if not is_guid(given):
        raise ApiError(
            400, "InvalidRoleAssignmentId", f"The role assignment's id '{given[:64]}' must be a GUID.", target="id"
        )  # fmt: skip
    return given.lower()


def _role(given: str) -> Role:
    role = role_named(given)
    if role is None:
        raise ApiError(
            400,
            "RoleDefinitionDoesNotExist",
            f"The role '{given[:200]}' does not exist. Roles are: {', '.join(ROLES)}.",
            target="properties.roleDefinitionId",
        )
    return role


_Wanted = Callable[[RoleAssignmentRecord, dict[str, PrincipalRecord | None]], bool]


def _filter(text: str) -> tuple[bool, _Wanted]:
    """Whether only what counts at the scope is wanted, and of whom. Raises ApiError 400."""
    if not text or _AT_SCOPE.fullmatch(text):
        return bool(text), lambda _row, _named: True
    match = _EQUALS.fullmatch(text)
    assigned = _ASSIGNED_TO.fullmatch(text)
    if match is not None and match[1].lower() == "principalid":
        wanted = match[2]
    elif assigned is not None:
        wanted = assigned[1]
    else:
        raise invalid_value(
            "$filter", "The $filter must be atScope(), principalId eq 'ID' or assignedTo('ID'), where ID may be a name."
        )
    wanted = wanted.replace("''", "'")

    def matches(row: RoleAssignmentRecord, named: dict[str, PrincipalRecord | None]) -> bool:
        principal = named[row.principal_id]
        return row.principal_id == wanted.lower() or (principal is not None and principal.name == wanted)

    return False, matches
