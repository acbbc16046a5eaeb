"""Collects what is wrong with a description, in the original's style of naming properties.

``Job.Properties.NodeCount`` in messages (rest-contract section 4), ``properties.nodeCount`` as target.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from trainshed.resources.errors import INVALID_PROPERTY_VALUE, INVALID_REQUEST_CONTENT, InvalidResource, Problem

_SPELLING = {"vmSize": "VMSize", "vmPriority": "VMPriority"}
_SHOWN = 100


class Findings:
    """Problems of one body. ``noun`` is the resource as messages name it: ``Job``, ``Cluster``, ``Workspace``..."""

    def __init__(self, noun: str) -> None:
        self.noun = noun
        self.problems: list[Problem] = []

    def property(self, path: str) -> str:
        """``properties.nodeCount`` -> ``Job.Properties.NodeCount``."""
        parts = [_SPELLING.get(part) or f"{part[:1].upper()}{part[1:]}" for part in path.split(".") if part]
        return ".".join([self.noun, *parts])

    def value(self, path: str, value: Any, why: str, details: Sequence[Problem] = ()) -> None:
        """A value that is not right: ``why`` completes *The specified value ... for property ...*."""
        message = f"The specified value {shown(value)} for property {self.property(path)} {why}"
        self.problems.append(Problem(INVALID_PROPERTY_VALUE, message, path, tuple(details)))

    def rule(self, path: str, why: str) -> None:
        """A property that breaks a rule, without its value (a secret, an object): ``why`` completes *The property*."""
        message = f"The property {self.property(path)} {why}"
        self.problems.append(Problem(INVALID_PROPERTY_VALUE, message, path))

    def missing(self, path: str, way_out: str) -> None:
        """A required member that is absent."""
        message = f"The required property {self.property(path)} is missing. {way_out}".strip()
        self.problems.append(Problem(INVALID_REQUEST_CONTENT, message, path))

    def unknown(self, path: str, version: str) -> None:
        """A member that the strict version does not have."""
        message = (
            f"The property {self.property(path)} is not known in api-version {version}. Check its spelling or drop it."
        )
        self.problems.append(Problem(INVALID_PROPERTY_VALUE, message, path))

    def raise_any(self) -> None:
        """Raise InvalidResource if anything was found."""
        if self.problems:
            raise InvalidResource(self.problems)


def shown(value: Any) -> str:
    """A value as messages show it: JSON, cut to a readable length. What is inside objects and lists may be secret."""
    if isinstance(value, dict | list):
        return "(an object)" if isinstance(value, dict) else "(a list)"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
