"""Key Vault references: part of the contract, and nothing in this version that could resolve them.

A job that silently ran without its secret would be worse than one that is refused with the way out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from trainshed.api.errors import ApiError

_SUFFIX = "SecretReference"


def refuse_references(properties: Mapping[str, Any]) -> None:
    """Raises ApiError 400 for the first ``*SecretReference`` of a definition."""
    for path in _references(properties, "properties"):
        raise ApiError(
            400,
            "InvalidPropertyValue",
            f"{path}: this version cannot resolve Key Vault references. Give the secret itself instead "
            f"({path.rpartition('.')[2].removesuffix(_SUFFIX)}): it is stored encrypted and never shown again.",
            target=path,
        )


def _references(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, member in value.items():
            if name.endswith(_SUFFIX):
                yield f"{path}.{name}"
            yield from _references(member, f"{path}.{name}")
    elif isinstance(value, list):
        for index, member in enumerate(value):
            yield from _references(member, f"{path}[{index}]")
