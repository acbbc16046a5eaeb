"""Principals: people and programs that may call (2026-11-01)."""

from __future__ import annotations

import uuid

from sqlalchemy import Connection
from starlette.responses import Response

from trainshed.api.access_views import own_view, principal_view
from trainshed.api.answers import JSON, answer
from trainshed.api.call import Call
from trainshed.api.errors import ApiError, invalid_value
from trainshed.api.lookup import find
from trainshed.api.paging import page, page_request
from trainshed.identity import Grant, Scope
from trainshed.resources import access, parsing
from trainshed.resources.views import Json
from trainshed.store import principals
from trainshed.store.records import PrincipalRecord


async def whoami(call: Call) -> Response:
    """GET: who the caller is, and the roles that it holds."""
    caller = call.caller
    limit = None if caller.limit is None else _grant(caller.limit)
    roles = [_grant(entry) for entry in caller.grants]
    return answer(own_view(caller.name, caller.id, caller.kind.value, roles, caller.token_id, limit))


async def create(call: Call) -> Response:
    """PUT: a new one under this name, or another display name, or locking out and letting in again."""
    name = call.part("principal")
    properties = parsing.parse_principal(await call.body()).properties
    now = call.now()

    def store(tx: Connection) -> tuple[int, PrincipalRecord]:
        existing = look_up(tx, name)
        if existing is None:
            _check_name(name)
            disabled_at = now if properties.disabled else None
            shown = properties.display_name or name
            made = PrincipalRecord(
                str(uuid.uuid4()), properties.kind, name, shown, None, None, disabled_at, now
            )  # fmt: skip
            principals.insert(tx, made)
            return 201, made
        if "kind" in properties.model_fields_set and properties.kind != existing.kind:
            raise ApiError(
                409,
                "Conflict",
                f"The principal '{existing.name}' is a {existing.kind} and stays one. Use another name, or delete it "
                "first.",
                target="properties.kind",
            )
        since = existing.disabled_at if existing.disabled_at is not None else now
        principals.change(
            tx, existing.id, properties.display_name or existing.display_name, since if properties.disabled else None
        )
        return 200, principals.get(tx, existing.id)

    status, record = await call.write(store)
    call.services.authenticator.forget()
    return answer(principal_view(record), status)


async def get(call: Call) -> Response:
    """GET one, by name or object id."""
    name = call.part("principal")
    return answer(principal_view(await call.read(lambda tx: required(tx, name))))


async def list_all(call: Call) -> Response:
    """GET all, in order of their names."""
    asked = page_request(call)

    def query(tx: Connection) -> bytes:
        rows = principals.page(tx, asked.after, asked.one_more)
        return page(call, asked, rows, principal_view, lambda record: record.name)

    return Response(await call.read(query), media_type=JSON)


async def delete(call: Call) -> Response:
    """DELETE: with its tokens and roles. What it did stays in the audit log."""
    name = call.part("principal")

    def store(tx: Connection) -> bool:
        record = look_up(tx, name)
        if record is None:
            return False
        principals.delete(tx, record.id)
        return True

    there = await call.write(store)
    call.services.authenticator.forget()
    return Response(status_code=200 if there else 204)


def look_up(tx: Connection, name_or_id: str) -> PrincipalRecord | None:
    """By name, or by object id, or None."""
    if access.is_guid(name_or_id):
        return find(principals.get, tx, name_or_id.lower())
    return find(principals.get_by_name, tx, name_or_id)


def required(tx: Connection, name_or_id: str) -> PrincipalRecord:
    """Raises ApiError 404."""
    record = look_up(tx, name_or_id)
    if record is None:
        raise ApiError(
            404,
            "PrincipalNotFound",
            f"There is no principal '{name_or_id[:128]}'. trainshed user list shows those that there are; people of an "
            "OpenID provider appear when they first call.",
            target="principal",
        )
    return record


def _check_name(name: str) -> None:
    if not access.is_principal_name(name) or name.lower() in access.RESERVED:
        raise invalid_value("principal", f"'{name[:128]}' cannot be a principal's name. It has {access.NAME_RULE}.")


def _grant(grant: Grant) -> Json:
    return {"role": grant.role, "scope": str(Scope.of_key(grant.scope_key))}
