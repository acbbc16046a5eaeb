"""Routes as values: what a path does, and what its entry in the OpenAPI document says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from trainshed.api.call import Call
from trainshed.api.services import Services

Handler = Callable[[Call], Awaitable[Response]]
#: Action of what is open to everybody who reaches the port.
OPEN = "*open*"
#: Where the path's template is left for the metrics.
ROUTE = "trainshed.route"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One operation. ``body`` and ``answer`` name schemas of the document."""

    method: str
    path: str
    handler: Handler
    operation_id: str
    body: str | None = None
    answer: str | None = None
    #: Statuses of success; those of failure are the same everywhere.
    statuses: tuple[int, ...] = (200,)
    #: Names of query parameters beside api-version.
    query: tuple[str, ...] = ()
    #: Whether only 2026-11-01 has it.
    newer: bool = False
    #: Media types that are not JSON.
    body_type: str = "application/json"
    answer_type: str = "application/json"
    #: What a caller must be allowed to do, for example ``Microsoft.BatchAI/workspaces/jobs/write``; the scope is in the
    #: path. ``OPEN`` where no token is needed.
    action: str = ""

    @property
    def parameters(self) -> list[str]:
        """Names of the path's parameters."""
        return [part[1:-1].partition(":")[0] for part in self.path.split("/") if part.startswith("{")]

    @property
    def description(self) -> str:
        """The handler's documentation."""
        return " ".join((self.handler.__doc__ or "").split())


def route(services: Services, endpoint: Endpoint) -> Route:
    """The route that hands each request to the handler as a Call."""
    handler, template = endpoint.handler, endpoint.path

    async def handle(request: Request) -> Response:
        request.scope[ROUTE] = template
        return await handler(Call(request, services))

    return Route(template, handle, methods=[endpoint.method], name=endpoint.operation_id)
