"""The OpenAPI documents, one for each version: an entry for each endpoint, made when first asked for.

The newer version's marks what the original has not (``x-since``, on operations and members); the original's is without.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from typing import Any

from trainshed import __version__
from trainshed.api.endpoints import ENDPOINTS
from trainshed.api.gate import FILES_PREFIX, OPEN_PATHS
from trainshed.api.routing import Endpoint
from trainshed.api.schemas import SINCE, component_schemas, reference
from trainshed.api.versions import is_versioned
from trainshed.resources.versions import KNOWN_VERSIONS, ApiVersion

_NUMBERS = {
    "maxresults": (1, 1000, 1000),
    "linkexpiryinminutes": (5, 600, 60),
    "offset": (0, 1 << 62, 0),
    "length": (1, 1 << 62, 1 << 62),
}
_DIGEST = {"pattern": "^[0-9a-f]{64}$"}
_PATTERNS = {
    **{
        noun: {"pattern": "^[A-Za-z0-9_-]{1,64}$"}
        for noun in ("workspace", "cluster", "experiment", "job", "fileServer")
    },
    "account": {"pattern": "^[a-z0-9]{3,24}$"},
    "assignment": {"pattern": "^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$"},
    "sha256": _DIGEST,
    "snapshot": _DIGEST,
    "service": {"pattern": "^(files|blobs)$"},
    "volume": {"pattern": "^[a-z0-9](-?[a-z0-9]){2,62}$"},
}
_REQUIRED_QUERY = frozenset({"outputdirectoryid", "se", "sp", "sig", "$skiptoken", "path", "sha256"})


@cache
def document(version: ApiVersion = ApiVersion.V2026_11_01) -> dict[str, Any]:
    """The whole document of a version."""
    paths: dict[str, dict[str, Any]] = defaultdict(dict)
    for endpoint in ENDPOINTS:
        if version.is_strict or not endpoint.newer:
            paths[endpoint.path.replace(":path}", "}")][endpoint.method.lower()] = _operation(endpoint, version)
    schemas = component_schemas()
    if not version.is_strict:
        schemas = _reachable({name: _original(schema) for name, schema in schemas.items()}, paths)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Trainshed",
            "version": version.value,
            "description": f"Service version {__version__}. Speaks api-version {' and '.join(KNOWN_VERSIONS)}; "
            "fixed path segments are matched without regard to case.",
        },
        "paths": dict(paths),
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _original(schema: Any) -> Any:
    """A schema without the members that came later."""
    if isinstance(schema, list):
        return [_original(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: _original(inner) for name, inner in schema.items() if not (isinstance(inner, dict) and SINCE in inner)
    }


def _reachable(schemas: dict[str, Any], paths: Any) -> dict[str, Any]:
    """Only the schemas that some path leads to."""
    found: set[str] = set()
    pending = set(_references(paths))
    while pending:
        name = pending.pop()
        found.add(name)
        pending |= set(_references(schemas[name])) - found
    return {name: schema for name, schema in schemas.items() if name in found}


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"].rpartition("/")[2]
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def _operation(endpoint: Endpoint, version: ApiVersion) -> dict[str, Any]:
    is_open = endpoint.path in OPEN_PATHS or endpoint.path.startswith(FILES_PREFIX)
    noun = endpoint.operation_id.partition("_")[0]
    made: dict[str, Any] = {
        "operationId": endpoint.operation_id,
        "summary": endpoint.description,
        "tags": [noun],
        "parameters": _parameters(endpoint, version),
        "responses": _responses(endpoint),
    }
    if endpoint.newer:
        made[SINCE] = ApiVersion.V2026_11_01.value
    if is_open:
        made["security"] = []
    if endpoint.body is not None:
        made["requestBody"] = {"content": {endpoint.body_type: {"schema": reference(endpoint.body)}}}
    return made


def _parameters(endpoint: Endpoint, version: ApiVersion) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", **_PATTERNS.get(name, {})}}
        for name in endpoint.parameters
    ]
    if is_versioned(endpoint.path):
        known = list(KNOWN_VERSIONS) if version.is_strict and not endpoint.newer else [version.value]
        parameters.append(
            {"name": "api-version", "in": "query", "required": True, "schema": {"type": "string", "enum": known}}
        )
    elif endpoint.path.startswith(("/subscriptions", "/tenants")):
        parameters.append({"name": "api-version", "in": "query", "required": False, "schema": {"type": "string"}})
    for name in endpoint.query:
        parameters.append(
            {"name": name, "in": "query", "required": name in _REQUIRED_QUERY, "schema": _query_schema(name)}
        )
    return parameters


def _query_schema(name: str) -> dict[str, Any]:
    if name in ("follow", "executable"):
        return {"type": "boolean", "default": False}
    if name not in _NUMBERS:
        return {"type": "string", "minLength": 1} if name in _REQUIRED_QUERY else {"type": "string"}
    least, most, default = _NUMBERS[name]
    return {"type": "integer", "minimum": least, "maximum": most, "default": default}


def _responses(endpoint: Endpoint) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status in endpoint.statuses:
        entry: dict[str, Any] = {"description": _MEANINGS[status]}
        if status not in (202, 204):
            if endpoint.answer is not None:
                entry["content"] = {endpoint.answer_type: {"schema": reference(endpoint.answer)}}
            elif endpoint.answer_type != "application/json":
                entry["content"] = {endpoint.answer_type: {"schema": reference("Bytes")}}
        else:
            entry["headers"] = {} if status == 204 else _LRO_HEADERS
        responses[str(status)] = entry
    responses["default"] = {
        "description": "An error: a stable code, and a message that says what to do",
        "content": {"application/json": {"schema": reference("ErrorAnswer")}},
    }
    return responses


_MEANINGS = {
    200: "Done",
    201: "Created",
    202: "Accepted: follow Azure-AsyncOperation until its status is Succeeded or Failed",
    204: "Nothing to show: there was nothing to delete, or it exists (HEAD)",
    206: "The range asked for",
}
_LRO_HEADERS = {name: {"schema": {"type": "string"}} for name in ("Azure-AsyncOperation", "Location", "Retry-After")}
