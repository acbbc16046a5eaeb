"""Long-running operations: the 202 answer with its two crossed headers, and the records to poll (rest-contract 3)."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection
from starlette.responses import Response

from trainshed.api.answers import RETRY_AFTER, answer
from trainshed.api.call import Call
from trainshed.api.errors import ApiError
from trainshed.api.lookup import find
from trainshed.resources.lifecycle import OperationState, OperationVerb
from trainshed.resources.views import operation_view
from trainshed.store import operations
from trainshed.store.records import OperationRecord


def begin(
    tx: Connection,
    *,
    subscription: str,
    location: str,
    resource_id: str,
    verb: OperationVerb,
    resource_key: str,
    now: int,
    done: bool = False,
) -> OperationRecord:
    """Record an operation. ``done``: it is carried out by the transaction that records it."""
    operation = OperationRecord(
        id=str(uuid.uuid4()),
        subscription=subscription,
        location=location,
        resource_id=resource_id,
        verb=verb,
        resource_key=resource_key,
        status=OperationState.SUCCEEDED if done else OperationState.IN_PROGRESS,
        started_at=now,
        ended_at=now if done else None,
    )
    operations.insert(tx, operation)
    return operation


async def required(
    call: Call, sees: Callable[[OperationRecord], bool], headers: Mapping[str, str] | None = None
) -> OperationRecord:
    """The operation in the path. Raises ApiError 404 for another subscription's, and for one that ``sees`` refuses."""
    operation_id, subscription = call.part("operation").lower(), call.subscription.lower()
    operation = await call.read(lambda tx: find(operations.get, tx, operation_id))
    if operation is None or operation.subscription.lower() != subscription or not sees(operation):
        raise ApiError(
            404,
            "OperationNotFound",
            f"The operation '{operation_id[:64]}' does not exist in this subscription. Its URL is in the header "
            "Location (of the provider's own also Azure-AsyncOperation) of the answer that started it.",
            headers=headers,
        )
    return operation


def accepted(call: Call, operation: OperationRecord, extra: dict[str, str] | None = None) -> Response:
    """202 without a body. ``Azure-AsyncOperation`` leads to operationresults, ``Location`` to operationstatuses."""
    headers = {
        "Azure-AsyncOperation": f"{_url(call, operation, 'operationresults')}?api-version={call.version.value}",
        "Location": f"{_url(call, operation, 'operationstatuses')}?api-version={call.version.value}",
        "Retry-After": RETRY_AFTER,
        "Content-Length": "0",
    }
    return Response(b"", 202, headers | (extra or {}))


def result(call: Call, operation: OperationRecord) -> Response:
    """200 with the operation as it is now."""
    waiting = {"Retry-After": RETRY_AFTER} if operation.status is OperationState.IN_PROGRESS else None
    return answer(_view(call, operation), headers=waiting)


def _view(call: Call, operation: OperationRecord) -> dict[str, Any]:
    error = operation.error
    return operation_view(
        id_url=_url(call, operation, "operationresults"),
        name=operation.id,
        status=operation.status.value,
        started_at=operation.started_at,
        ended_at=operation.ended_at,
        resource_id=operation.resource_id,
        error=None if error is None else {"code": error.code.value, "message": error.text},
    )


def _url(call: Call, operation: OperationRecord, kind: str) -> str:
    return (
        f"{call.base_url}/subscriptions/{quote(operation.subscription)}/providers/Microsoft.BatchAI"
        f"/locations/{quote(operation.location)}/{kind}/{operation.id}"
    )
