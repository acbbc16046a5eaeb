"""The ``api-version`` parameter: required below ``/subscriptions`` and ``/providers``; two values are known."""

from __future__ import annotations

from collections.abc import Mapping

from trainshed.api.errors import GATEWAY, ApiError
from trainshed.resources.versions import KNOWN_VERSIONS, ApiVersion

#: The query parameter's name.
VERSION_PARAMETER = "api-version"
_KNOWN = ", ".join(KNOWN_VERSIONS)


def version_of(query: Mapping[str, str]) -> ApiVersion:
    """The version that a request asks for. Raises ApiError naming the known ones."""
    given = query.get(VERSION_PARAMETER)
    if not given:
        raise ApiError(
            400,
            "MissingApiVersionParameter",
            f"The api-version query parameter (?api-version=) is required for all requests. Known versions: {_KNOWN}.",
            target="api-version",
            headers=GATEWAY,
        )
    try:
        return ApiVersion(given)
    except ValueError:
        raise ApiError(
            400,
            "InvalidApiVersionParameter",
            f"The api-version '{given[:100]}' is not known. Known versions: {_KNOWN}.",
            target="api-version",
            headers=GATEWAY,
        ) from None


def require_newer(version: ApiVersion, what: str) -> None:
    """Refuse what only 2026-11-01 has."""
    if version is ApiVersion.V2018_05_01:
        raise ApiError(
            400,
            "InvalidApiVersionParameter",
            f"{what} does not exist in api-version {version.value}. Use api-version={ApiVersion.V2026_11_01.value}.",
            target="api-version",
        )
