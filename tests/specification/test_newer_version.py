"""The service's own document is true: every operation of 2026-11-01, driven by it, answers as it says."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
from schemathesis import GenerationMode
from structlog.testing import capture_logs

from tests.api.service import NEW
from tests.specification.cases import Made, make_all
from tests.specification.noise import BODIES
from tests.specification.operations import Judge, read_operations
from tests.specification.walk import Walk
from tests.specification.world import FAULTS, World

pytestmark = pytest.mark.slow

PLAIN = {GenerationMode.POSITIVE: 3, GenerationMode.NEGATIVE: 2}
WITH_BODY = {GenerationMode.POSITIVE: 3, GenerationMode.NEGATIVE: 6}
#: Valid bodies of each creation, beside those that the document makes up: it cannot say all rules.
VALID = 15
#: Links carry signatures; files and probes have tests of their own (tests/api/test_files.py, test_operation.py).
ELSEWHERE = ("Files_", "Probes_", "Code_PutBlob")
#: The pattern of most names in paths.
NAME = "^[A-Za-z0-9_-]{1,64}$"


def test_every_operation_of_the_newer_version(world: World) -> None:
    document = world.service.send("GET", "/openapi.json", version=None).json()
    for path in list(document["paths"]):
        for method, operation in list(document["paths"][path].items()):
            if operation["operationId"].startswith(ELSEWHERE):
                del document["paths"][path][method]
    cases = make_all(_narrowed(document), PLAIN, WITH_BODY, seed=5)
    operations, contents = read_operations(document), _takes_bytes(document)
    for operation_id, made in cases.items():
        schema = operations[operation_id].body
        query = {entry["name"] for entry in operations[operation_id].query} - {"api-version", "maxresults"}
        if schema is not None or query or operation_id in contents:
            # The document allows more than the rules that only words can tell: no demand that these are accepted.
            made[:] = [dataclasses.replace(case, valid=False) if case.valid else case for case in made]
        if schema is not None:
            body = BODIES.get(schema["$ref"].rpartition("/")[2])
            if body is not None and operation_id != "Code_PutSnapshot":
                made += [Made(operation_id, made[0].path, {}, body, valid=True)] * VALID
    walk = Walk(world, operations, Judge(_closed(document)), Judge(document), seed=5, version=NEW)
    with capture_logs() as logs:
        walk.play(cases, rounds=3)
    assert [entry for entry in logs if entry["event"] in FAULTS] == []
    print(f"{walk.played} cases, states of jobs that were seen: {dict(walk.job_states)}")
    assert walk.played >= 350
    never = {operation for operation in operations if not any(played == operation for played, _ in walk.seen)}
    assert not never
    assert len(walk.job_states) >= 2, walk.job_states


def _takes_bytes(document: dict[str, Any]) -> set[str]:
    """Operations that are sent something else than JSON, of which a document can say no more than that."""
    found = set()
    for methods in document["paths"].values():
        for operation in methods.values():
            content = operation.get("requestBody", {}).get("content")
            if content is not None and "application/json" not in content:
                found.add(operation["operationId"])
    assert found, "contents of files are sent as they are"
    return found


def _narrowed(document: dict[str, Any]) -> dict[str, Any]:
    """Names of the rarer sort, one version, and no waiting for files that may never come."""
    document = copy.deepcopy(document)
    for methods in document["paths"].values():
        for operation in methods.values():
            for parameter in operation["parameters"]:
                if parameter["in"] == "path" and parameter["schema"].get("pattern", NAME) == NAME:
                    parameter["schema"] = {"type": "string", "enum": ["-", "_", "0", "A-b_9", "n" * 64]}
                elif parameter["name"] == "api-version":
                    parameter["schema"]["enum"] = [NEW]
                elif parameter["name"] == "follow":
                    parameter["schema"] = {"type": "boolean", "enum": [False]}
    return document


def _closed(document: dict[str, Any]) -> dict[str, Any]:
    """Objects have no members but those that the document names."""
    document = copy.deepcopy(document)
    schemas = document["components"]["schemas"]
    parts = {part["$ref"].rpartition("/")[2] for part in _parts(schemas)}
    for name, schema in schemas.items():
        _close(schema, itself=name not in parts)
    return document


def _parts(value: Any) -> Iterator[dict[str, Any]]:
    """References in ``allOf``: parts of a whole, which is what gets closed."""
    if isinstance(value, dict):
        yield from (part for part in value.get("allOf", []) if "$ref" in part)
        for member in value.values():
            yield from _parts(member)
    elif isinstance(value, list):
        for entry in value:
            yield from _parts(entry)


def _close(schema: Any, *, itself: bool = True) -> None:
    if not isinstance(schema, dict):
        return
    if itself and ("properties" in schema or "allOf" in schema) and "additionalProperties" not in schema:
        schema["unevaluatedProperties"] = False
    for member in schema.get("properties", {}).values():
        _close(member)
    _close(schema.get("items"))
    for part in schema.get("allOf", []):
        _close(part, itself=False)
    for part in schema.get("anyOf", []):
        _close(part)
