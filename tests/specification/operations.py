"""Operations of a document, the same for Swagger 2.0 (the original's) and OpenAPI 3.1 (the service's own)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from jsonschema import Draft202012Validator

from tests.specification.amendments import NAME, NAMES_BY_PARAMETER

Schema = dict[str, Any]


@dataclass(frozen=True)
class Operation:
    """One operation. Schemas are references into its document; None where there is no JSON."""

    id: str
    method: str
    path: str
    query: tuple[Schema, ...]
    body: Schema | None
    #: Declared successes and the schema of each.
    answers: dict[int, Schema | None] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Parameters of the path, from the left."""
        return re.findall(r"\{(\w+)\}", self.path)


def read_operations(document: Schema) -> dict[str, Operation]:
    """All operations by id."""
    found = {}
    for path, methods in document["paths"].items():
        for method, raw in methods.items():
            parameters = [_resolved(document, entry) for entry in raw.get("parameters", [])]
            found[raw["operationId"]] = Operation(
                raw["operationId"],
                method.upper(),
                path,
                tuple(entry for entry in parameters if entry["in"] == "query"),
                _body(raw, parameters),
                {int(status): _answer(entry) for status, entry in raw["responses"].items() if status != "default"},
            )
    return found


class Judge:
    """Whether values are what a document's schemas say."""

    def __init__(self, document: Schema) -> None:
        self.document = document
        self._validators: dict[str, Draft202012Validator] = {}

    def validate(self, schema: Schema, value: Any) -> None:
        """Raises jsonschema's ValidationError."""
        self._validator(schema).validate(value)

    def forbids_body(self, operation: Operation, body: Any) -> bool:
        """Whether the body is wrong by the schema's letter, not counting what the service ignores."""
        schema = operation.body
        if schema is None or body is None:
            return False
        return not self._validator(schema).is_valid(self._known(schema, body))

    def _validator(self, schema: Schema) -> Draft202012Validator:
        key = repr(schema)
        if key not in self._validators:
            whole = {**schema, **{part: self.document[part] for part in ("definitions", "components")
                                  if part in self.document}}  # fmt: skip
            self._validators[key] = Draft202012Validator(whole)
        return self._validators[key]

    def _known(self, schema: Schema, value: Any) -> Any:
        """The value without null, members that are not known, and members that the service sets."""
        schema = _resolved(self.document, schema)
        if isinstance(value, dict) and "properties" in schema:
            members = {name: member for name, member in schema["properties"].items() if not member.get("readOnly")}
            return {
                name: self._known(members[name], entry)
                for name, entry in value.items()
                if name in members and entry is not None
            }
        if isinstance(value, list) and "items" in schema:
            return [self._known(schema["items"], entry) for entry in value]
        return value


def wrong_name(parameter: str, value: str) -> bool:
    """Whether a name in a path (percent-encoded) is none that a resource may have (section 5)."""
    return re.search(NAMES_BY_PARAMETER.get(parameter, NAME), unquote(value)) is None


def wrong_query(operation: Operation, query: dict[str, Any]) -> bool:
    """Whether the query lacks what it needs, or has a value out of bounds."""
    return any(_wrong_value(parameter, query) for parameter in operation.query)


def _wrong_value(parameter: Schema, query: dict[str, Any]) -> bool:
    value = query.get(parameter["name"])
    if value is None:
        return parameter.get("required", False) and parameter["name"] not in query
    if isinstance(value, list | dict | bool):
        return False
    schema = parameter.get("schema", parameter)
    text = str(value)
    if schema.get("type") == "string" and "enum" in schema and parameter["name"] == "api-version":
        return text not in schema["enum"]
    if schema.get("type") == "integer" and text != "":
        most = schema.get("maximum", 1 << 62)
        return not (re.fullmatch(r"\d+", text, re.ASCII) and schema["minimum"] <= int(text) <= most)
    return False


def _resolved(document: Schema, schema: Schema) -> Schema:
    while "$ref" in schema:
        found: Any = document
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        schema = found
    return schema


def _body(raw: Schema, parameters: list[Schema]) -> Schema | None:
    content = raw.get("requestBody", {}).get("content", {})
    if content:
        return content.get("application/json", {}).get("schema")
    return next((entry["schema"] for entry in parameters if entry["in"] == "body"), None)


def _answer(raw: Schema) -> Schema | None:
    if "content" in raw:
        return raw["content"].get("application/json", {}).get("schema")
    return raw.get("schema")
