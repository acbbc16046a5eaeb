"""Where two descriptions differ, by the contract's names of properties: what a 409 names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def differing(stored: Mapping[str, Any], wanted: Mapping[str, Any], place: str = "properties") -> list[str]:
    """Paths of the innermost properties that differ, for example ``properties.constraints.maxWallClockTime``.

    Lists are compared as wholes. Ids of resources are the same in any case.
    """
    found: list[str] = []
    for name in [*stored, *(name for name in wanted if name not in stored)]:
        old, new = stored.get(name), wanted.get(name)
        path = f"{place}.{name}"
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += differing(old, new, path)
        elif old != new and not (name == "id" and _same_id(old, new)):
            found.append(path)
    return found


def _same_id(old: Any, new: Any) -> bool:
    return isinstance(old, str) and isinstance(new, str) and old.lower() == new.lower()
