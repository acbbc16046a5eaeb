"""The two versions of the API: the original contract, and its superset."""

from __future__ import annotations

from enum import StrEnum


class ApiVersion(StrEnum):
    """Values of the ``api-version`` query parameter."""

    #: The original contract, to the letter. Members that it doesn't know are ignored (and reported).
    V2018_05_01 = "2018-05-01"
    #: The same resources with additional optional properties. Members that it doesn't know are refused.
    V2026_11_01 = "2026-11-01"

    @property
    def is_strict(self) -> bool:
        """Whether unknown members of a body are errors."""
        return self is not ApiVersion.V2018_05_01


KNOWN_VERSIONS: tuple[str, ...] = tuple(version.value for version in ApiVersion)
