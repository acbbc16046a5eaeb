"""The Python client of Trainshed's public API: ``Client`` and ``AsyncClient``.

    from trainshed.client import Client

    with Client() as client:
        for job in client.jobs.list():
            print(job.name, job.execution_state)

Names are imported when they are first used, so that the command line pays only for what it needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainshed.client.aio import AsyncClient
    from trainshed.client.client import Client
    from trainshed.client.connection import Connection, find_service
    from trainshed.client.errors import (
        ClientError,
        NoServiceError,
        NotFoundError,
        OperationFailedError,
        ServiceError,
        ServiceUnreachableError,
        UntrustedServiceError,
    )
    from trainshed.client.scope import Scope

_HOMES = {
    "AsyncClient": "aio",
    "Client": "client",
    "Connection": "connection",
    "find_service": "connection",
    "ClientError": "errors",
    "NoServiceError": "errors",
    "NotFoundError": "errors",
    "OperationFailedError": "errors",
    "ServiceError": "errors",
    "ServiceUnreachableError": "errors",
    "UntrustedServiceError": "errors",
    "Scope": "scope",
}

__all__ = [
    "AsyncClient",
    "Client",
    "ClientError",
    "Connection",
    "NoServiceError",
    "NotFoundError",
    "OperationFailedError",
    "Scope",
    "ServiceError",
    "ServiceUnreachableError",
    "UntrustedServiceError",
    "find_service",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
