"""Operation results and statuses, and the list of what the provider can do (rest-contract sections 3 and 12)."""

from __future__ import annotations

from starlette.responses import Response

from trainshed.api import lro
from trainshed.api.answers import answer
from trainshed.api.call import Call
from trainshed.identity import Scope
from trainshed.resources.lifecycle import OperationState
from trainshed.resources.operations import operations as provider_operations
from trainshed.store.records import OperationRecord


async def get_result(call: Call) -> Response:
    """Always 200; ``status`` tells."""
    return lro.result(call, await lro.required(call, lambda operation: _may_see(call, operation)))


async def get_status(call: Call) -> Response:
    """202 while it runs, then what ``get_result`` answers: newer clients follow ``Location`` at the end."""
    operation = await lro.required(call, lambda operation: _may_see(call, operation))
    if operation.status is OperationState.IN_PROGRESS:
        return lro.accepted(call, operation)
    return lro.result(call, operation)


async def list_operations(call: Call) -> Response:
    """All operations of the provider."""
    return answer({"value": provider_operations()})


def _may_see(call: Call, operation: OperationRecord) -> bool:
    """Whether the caller may read operations where this one works; what they may not see is not there."""
    names = operation.resource_id.split("$")[:3]
    return call.caller.may("Microsoft.BatchAI/locations/operationresults/read", Scope(*names).key)
