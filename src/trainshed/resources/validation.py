"""From a JSON value to a model, with every structural error told in words (types, ranges, missing members).

``InvalidResource`` and ``Problem`` are in ``trainshed.resources.errors`` and can be had from here too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from trainshed.resources.common import Model, Secret
from trainshed.resources.errors import INVALID_REQUEST_CONTENT, InvalidResource, Problem
from trainshed.resources.findings import Findings, shown
from trainshed.resources.members import known_members
from trainshed.resources.versions import ApiVersion

__all__ = ["InvalidResource", "Problem", "read_model", "read_object"]

M = TypeVar("M", bound=Model)
_EXAMPLE_BODY = {"Workspace": '{"location": "local"}'}


def read_object(body: bytes | bytearray | str | Mapping[str, Any] | None, noun: str) -> dict[str, Any]:
    """Parse a request body that must be a JSON object. An absent or empty body is an empty object.

    Raises InvalidResource (InvalidRequestContent) with the place of the error.
    """
    if body is None or (isinstance(body, (bytes, bytearray, str)) and not body.strip()):
        return {}
    if isinstance(body, Mapping):
        return dict(body)
    example = _EXAMPLE_BODY.get(noun, '{"properties": {...}}')
    try:
        text = body if isinstance(body, str) else bytes(body).decode("utf-8-sig")
        parsed = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        reason = f"{error.msg} at line {error.lineno}, column {error.colno}"
    except UnicodeDecodeError as error:
        reason = f"it is not UTF-8 text (byte {error.start})"
    except RecursionError:
        reason = "it is nested too deeply"
    except ValueError as error:
        reason = str(error)
    else:
        if isinstance(parsed, dict):
            if "\\u" in text and (wrong := _unstorable(parsed)):
                raise InvalidResource.of(
                    INVALID_REQUEST_CONTENT, f"The request body of the {noun.lower()} holds {wrong}."
                )
            return parsed
        reason = f"it is {_json_type(parsed)}, not an object"
    message = (
        f"The request body of the {noun.lower()} is not a JSON object: {reason}. Send an object such as {example}."
    )
    raise InvalidResource.of(INVALID_REQUEST_CONTENT, message)


def read_model(model: type[M], body: Mapping[str, Any], noun: str, version: ApiVersion) -> tuple[M, list[str]]:
    """Make a model of a parsed body; also the paths of members that were ignored.

    Raises InvalidResource with all structural problems, and in strict versions with all unknown members.
    """
    kept, unknown = known_members(model, body, version)
    findings = Findings(noun)
    if version.is_strict:
        for path in unknown:
            findings.unknown(path, version.value)
        unknown = []
    try:
        made = model.model_validate(kept)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            _tell(findings, model, detail)
        raise InvalidResource(findings.problems) from None
    findings.raise_any()
    return made, unknown


def _tell(findings: Findings, model: type[Model], error: ErrorDetails) -> None:
    path = _path(error["loc"])
    field = _field(model, error["loc"])
    kind, context, value = error["type"], error.get("ctx", {}), error["input"]
    example = _example(field)
    if kind == "missing":
        what = f"{field.description}" if field is not None and field.description else "It is needed"
        findings.missing(path, f"{what}{f', for example {example}' if example else ''}.")
        return
    such = f", for example {example}" if example else ""
    match kind:
        case "float_type":
            why = f"is not a number. Write a JSON number without quotes{such}."
        case "int_type" | "int_from_float":
            why = f"is not an integer. Write a JSON number without quotes or fraction{such}."
        case "int_parsing_size":
            why = "is too large."
        case "string_type":
            why = f"is not a string. Write it in double quotes{such}."
        case "model_type" | "model_attributes_type" | "dict_type":
            why = f"is not an object. Write a JSON object in braces{such}."
        case "list_type":
            why = "is not a list. Write a JSON array in brackets."
        case "greater_than_equal" | "less_than_equal":
            low, high = _bounds(field)
            allowed = f"from {low} to {high}" if low is not None and high is not None else f"{context}"
            kind = "a number" if field is not None and float in _types(field.annotation) else "an integer"
            why = f"is out of range: it must be {kind} {allowed}{such}."
        case "literal_error":
            why = f"is not supported. Supported values: {context.get('expected', '').replace(chr(39), '')}."
        case "string_too_short":
            why = f"is empty. Give at least one character{such}."
        case "string_too_long":
            why = f"is too long: {len(value)} characters, at most {context['max_length']} are allowed."
        case "too_long":
            why = f"has too many entries: {len(value)}, at most {context['max_length']} are allowed."
        case "string_pattern_mismatch":
            why = f"is not of the form {context['pattern']}."
        case _:
            why = error["msg"]
    if _is_secret(field) or (_holds_model(field) and not isinstance(value, dict | list)):
        # What was put in the place of an object, credentials for example, may be the secret itself.
        findings.rule(path, why)
    else:
        findings.value(path, value, why)


def _path(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else (f".{part}" if path else part)
    return path


def _field(model: type[Model], location: tuple[int | str, ...]) -> FieldInfo | None:
    """The field that an error's location names, walking down the models."""
    current: type[BaseModel] | None = model
    found: FieldInfo | None = None
    for part in location:
        if isinstance(part, int):
            continue
        found = None
        for name, field in (current.model_fields if current else {}).items():
            if (field.alias or name) == part:
                found = field
                break
        current = _model_of(found.annotation) if found is not None else None
    return found


def _model_of(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type):
        return annotation if issubclass(annotation, BaseModel) else None
    for argument in getattr(annotation, "__args__", ()):
        found = _model_of(argument)
        if found is not None:
            return found
    return None


def _is_secret(field: FieldInfo | None) -> bool:
    return field is not None and Secret in _types(field.annotation)


def _types(annotation: Any) -> tuple[Any, ...]:
    return (annotation, *getattr(annotation, "__args__", ()))


def _holds_model(field: FieldInfo | None) -> bool:
    return field is not None and _model_of(field.annotation) is not None


def _example(field: FieldInfo | None) -> str:
    if field is None or not field.examples:
        return ""
    return json.dumps(field.examples[0])


def _bounds(field: FieldInfo | None) -> tuple[int | None, int | None]:
    low = high = None
    pending = list(field.metadata) if field is not None else []
    if field is not None:
        for argument in getattr(field.annotation, "__args__", ()):
            pending += getattr(argument, "__metadata__", ())
    while pending:
        item = pending.pop()
        if isinstance(item, FieldInfo):
            pending += item.metadata
        low = getattr(item, "ge", low)
        high = getattr(item, "le", high)
    return low, high


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _unstorable(body: Any) -> str | None:
    """Text that no database, file or variable can hold: NUL, and halves of surrogate pairs."""
    # Not recursive: the parser takes a body nested almost as deeply as the interpreter's stack.
    pending = [body]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending += [*value, *value.values()]
        elif isinstance(value, list):
            pending += value
        elif isinstance(value, str):
            if "\0" in value:
                return "a NUL character (\\u0000), which no text can. Remove it"
            if any("\ud800" <= character <= "\udfff" for character in value):
                return "half of a surrogate pair (\\ud800 to \\udfff). Write both halves, or the character itself"
    return None


def _json_type(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "a list"
        case _:
            return shown(value)
