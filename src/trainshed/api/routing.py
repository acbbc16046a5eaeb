"""Routes as values: what a path does, what it needs, and what its entry in the OpenAPI document says."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from trainshed.api import auditing
from trainshed.api.authorization import OPEN, Reach, require, require_within
from trainshed.api.call import Call
from trainshed.api.errors import ApiError
from trainshed.api.services import Services
from trainshed.api.versions import require_newer
from trainshed.identity import Scope
from trainshed.resources.errors import InvalidResource
from trainshed.store.errors import StoreError

Handler = Callable[[Call], Awaitable[Response]]
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
    #: What a caller must be allowed to do, for example ``Microsoft.BatchAI/workspaces/experiments/jobs/write``; the
    #: path tells where. ``OPEN`` where no token is needed.
    action: str = ""
    reach: Reach = Reach.SCOPE
    #: Whether it only reads although its method is one that changes things: then it is not audited.
    reads: bool = False

    @property
    def parameters(self) -> list[str]:
        """Names of the path's parameters."""
        return [part[1:-1].partition(":")[0] for part in self.path.split("/") if part.startswith("{")]

    @property
    def description(self) -> str:
        """The handler's documentation."""
        return " ".join((self.handler.__doc__ or "").split())

    @property
    def audited(self) -> bool:
        """Whether requests of it are noted in the audit log."""
        return auditing.is_change(self.method) and not self.reads and self.action != OPEN


def scope_of(request: Request) -> Scope:
    """The scope that a path names: as far down as a workspace."""
    names = request.path_params
    return Scope(names.get("subscription", ""), names.get("group", ""), names.get("workspace", ""))


def route(services: Services, endpoint: Endpoint) -> Route:
    """The route that hands each request to the handler as a Call, when the caller may."""
    handler, template, action = endpoint.handler, endpoint.path, endpoint.action
    allowed = require if endpoint.reach is Reach.SCOPE else require_within
    is_open, audited, newer = action == OPEN, endpoint.audited, endpoint.newer

    async def handle(request: Request) -> Response:
        request.scope[ROUTE] = template
        call = Call(request, services, action if audited else None)
        if is_open:
            return await handler(call)
        if newer:
            require_newer(call.version, f"The operation {endpoint.operation_id}")
        if not audited:
            allowed(call.caller, action, scope_of(request))
            return await handler(call)
        try:
            allowed(call.caller, action, scope_of(request))
            answer = await handler(call)
        except ApiError as error:
            outcome = auditing.REFUSED if error.status == 403 else auditing.FAILED
            await call.note(outcome, error.status, error.problem.code)
            raise
        except InvalidResource as error:
            await call.note(auditing.FAILED, 400, error.code)
            raise
        except Exception:
            with contextlib.suppress(StoreError):
                await call.note(auditing.FAILED, 500, "InternalServerError")
            raise
        await call.note(auditing.ACCEPTED)
        return answer

    return Route(template, handle, methods=[endpoint.method], name=endpoint.operation_id)
