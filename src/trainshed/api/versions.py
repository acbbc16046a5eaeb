"""The ``api-version`` parameter: required on the provider's own routes; two values are known."""

from __future__ import annotations

from collections.abc import Mapping

from trainshed.api.errors import GATEWAY, ApiError
from trainshed.resources.versions import KNOWN_VERSIONS, ApiVersion

#: Routes of Azure Resource Manager and of other providers take any version or none: each client sends its own.
_OWN = ("Microsoft.BatchAI", "Trainshed.")
_REGISTRATION = ("/providers/Microsoft.BatchAI/register", "/providers/Microsoft.BatchAI/unregister")

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


def is_versioned(path: str) -> bool:
    """Whether a path, its fixed segments in the routes' spelling, is one of the service's own providers'.

    The last provider of the path counts: a role assignment at a workspace is Microsoft.Authorization's.
    """
    parts = path.split("/")
    if len(parts) < 2 or parts[1] not in ("subscriptions", "providers") or path.endswith(_REGISTRATION):
        return False
    # Types and names alternate, and a provider's namespace stands where a name would: a workspace may be "providers".
    pairs = list(zip(parts[1::2], parts[2::2], strict=False))
    namespaces = [name for kind, name in pairs if kind == "providers"]
    # With nothing after it, the namespace itself is asked for: that is Azure Resource Manager's.
    asks_for_itself = len(parts) % 2 == 1 and pairs[-1][0] == "providers"
    return bool(namespaces) and namespaces[-1].startswith(_OWN) and not asks_for_itself


def require_newer(version: ApiVersion, what: str) -> None:
    """Refuse what only 2026-11-01 has."""
    if version is ApiVersion.V2018_05_01:
        raise ApiError(
            400,
            "InvalidApiVersionParameter",
            f"{what} does not exist in api-version {version.value}. Use api-version={ApiVersion.V2026_11_01.value}.",
            target="api-version",
        )
