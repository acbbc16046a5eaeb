"""Which members of a JSON body a version of the API knows: the rest is dropped and named.

Members that the service sets are dropped in silence, since clients send back what they read. ``null`` means absent.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin

from trainshed.resources.common import Model
from trainshed.resources.versions import ApiVersion


def known_members(
    model: type[Model], body: Mapping[str, Any], version: ApiVersion, path: str = ""
) -> tuple[dict[str, Any], list[str]]:
    """The body with only the members that ``model`` has in ``version``, and the paths of those it has not.

    Paths are of the form ``properties.outputDirectories[0].foo``.
    """
    members = _members(model)
    kept: dict[str, Any] = {}
    unknown: list[str] = []
    for name, value in body.items():
        place = f"{path}.{name}" if path else name
        known = name in members and (version.is_strict or name not in model.since_2026)
        if not known:
            if name not in model.read_only:
                unknown.append(place)
        elif value is not None:
            kept[name], below = _inside(members[name], value, version, place)
            unknown += below
    return kept, unknown


def _inside(model: type[Model] | None, value: Any, version: ApiVersion, path: str) -> tuple[Any, list[str]]:
    if model is None:
        return value, []
    if isinstance(value, Mapping):
        return known_members(model, value, version, path)
    if isinstance(value, list):
        entries: list[Any] = []
        unknown: list[str] = []
        for index, entry in enumerate(value):
            kept, below = _inside(model, entry, version, f"{path}[{index}]")
            entries.append(kept)
            unknown += below
        return entries, unknown
    return value, []


@cache
def _members(model: type[Model]) -> dict[str, type[Model] | None]:
    """JSON member -> the model of its value (or of its entries), None for plain values."""
    return {field.alias or name: _model_in(field.annotation) for name, field in model.model_fields.items()}


def _model_in(annotation: Any) -> type[Model] | None:
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return annotation
    if get_origin(annotation) in (list, Union, types.UnionType, Annotated):
        for argument in get_args(annotation):
            found = _model_in(argument)
            if found is not None:
                return found
    return None
