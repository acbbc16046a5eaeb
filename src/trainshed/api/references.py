"""Key Vault references in what a client sends: their shape is checked, and that they resolve, before they are stored.

The value is not kept: it is resolved again at each attempt's or node's start, so that changing the secret is enough.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from trainshed.api.call import Call
from trainshed.api.errors import ApiError
from trainshed.resources.keyvault import Reference, SecretName, SecretUnavailable, references_of


async def unresolved(call: Call, definition: Mapping[str, Any]) -> ApiError | None:
    """The answer to a definition one of whose references does not resolve for its workspace; None when all do.

    Raises ApiError at once for a reference that no vault could resolve.
    """
    found = references_of(definition)
    if not found:
        return None
    named = [(reference, _named(reference)) for reference in found]
    return await asyncio.to_thread(_try, call, named, call.workspace_key)


def _named(reference: Reference) -> SecretName:
    try:
        return reference.secret()
    except ValueError as error:
        raise ApiError(400, "InvalidPropertyValue", f"{reference.target}: {error}.", target=reference.target) from None


def _try(call: Call, named: list[tuple[Reference, SecretName]], workspace: str) -> ApiError | None:
    for reference, secret in named:
        try:
            call.services.keyvault.get(secret, workspace)
        except SecretUnavailable as error:
            message = f"{reference.target} does not resolve: {error}."
            return ApiError(400, error.code.value, message, target=reference.target)
    return None
