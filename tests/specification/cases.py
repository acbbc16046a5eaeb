"""Requests that schemathesis makes up from a specification: what it allows, and what it forbids."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import hypothesis
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import APIOperation, Case, GenerationMode

Counts = dict[GenerationMode, int]


@dataclass(frozen=True)
class Made:
    """One request of an operation. ``valid``: the specification allows all of it.

    ``path`` and ``query`` hold parameters by name (``path`` percent-encoded); ``body`` is a JSON value, bytes, or
    None where there is none. ``forbidden`` says what the specification forbids: ``body``, ``query`` or ``path``.
    """

    operation: str
    path: dict[str, str]
    query: dict[str, Any]
    body: Any
    valid: bool
    forbidden: str = ""


def make(document: dict[str, Any], operation_id: str, mode: GenerationMode, count: int, seed: int) -> list[Made]:
    """``count`` requests, the same ones for the same seed."""
    return _make(_by_id(document)[operation_id], operation_id, mode, count, seed)


def make_all(document: dict[str, Any], plain: Counts, with_body: Counts, seed: int) -> dict[str, list[Made]]:
    """Requests for every operation of the document, by operationId; more for those that have a body or a query."""
    made = {}
    for operation_id, operation in _by_id(document).items():
        needs_query = any(parameter.is_required for parameter in operation.query if parameter.name != "api-version")
        counts = with_body if operation.body or needs_query else plain
        made[operation_id] = [
            case for mode, count in counts.items() for case in _make(operation, operation_id, mode, count, seed)
        ]
    return made


def _by_id(document: dict[str, Any]) -> dict[str, APIOperation]:
    schema = schemathesis.openapi.from_dict(document)
    found = {}
    for result in schema.get_all_operations():
        operation = result.ok()
        found[operation.definition.raw["operationId"]] = operation
    return found


def _make(operation: APIOperation, operation_id: str, mode: GenerationMode, count: int, seed: int) -> list[Made]:
    made: list[Made] = []

    @hypothesis.seed(seed)
    @settings(
        max_examples=count, phases=[Phase.generate], database=None, deadline=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(operation.as_strategy(generation_mode=mode))
    def collect(case: Case) -> None:
        made.append(_of(case, operation_id, mode is GenerationMode.POSITIVE))

    collect()
    return made


def _of(case: Case, operation_id: str, valid: bool) -> Made:
    body = case.body
    if type(body).__name__ == "NotSet":
        body = None
    elif not isinstance(body, bytes) and not _is_json(body):
        body = repr(body).encode("utf-8", "replace")
    forbidden = ""
    if not valid and case.meta is not None:
        forbidden = next(
            (
                location.value
                for location, component in case.meta.components.items()
                if component.mode is GenerationMode.NEGATIVE
            ),
            "",
        )
    path = {name: str(value) for name, value in (case.path_parameters or {}).items()}
    return Made(operation_id, path, dict(case.query or {}), body, valid, forbidden)


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return not (isinstance(value, float) and math.isnan(value))
