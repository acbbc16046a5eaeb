"""Errors on the wire: one shape, stable codes, and messages that name the way out (rest-contract section 4)."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trainshed.api.answers import JSON, encode
from trainshed.resources.errors import InvalidResource, Problem
from trainshed.resources.ids import Kind
from trainshed.store.errors import StoreClosed, StoreError, StoreUnavailable

log = structlog.get_logger(__name__)

#: Where ``HeadersMiddleware`` leaves the id that the answer's headers carry.
REQUEST_ID = "trainshed.request_id"
GATEWAY = {"x-ms-failure-cause": "gateway"}
#: The original closed the connection after a 5xx: a client that repeats the request may then reach another server.
CLOSING = {"Connection": "close"}


class ApiError(Exception):
    """An answer that says no. ``target`` is the JSON path or the parameter concerned."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        target: str = "",
        details: Sequence[Problem] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.problem = Problem(code, message, target, tuple(details))
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """The answer."""
        return error_response(self.status, self.problem.to_json(), self.headers)


def error_response(status: int, error: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    """``{"error": {code, message, target?, details?}}``."""
    return Response(encode({"error": error}), status, headers, JSON)


def not_found(kind: Kind, name: str) -> ApiError:
    """404 with the contract's code and message."""
    return ApiError(404, kind.not_found_code, f"The specified {_word(kind)} {name} is not found")


def _word(kind: Kind) -> str:
    return "file server" if kind is Kind.FILE_SERVER else kind.value


def parent_not_found(kind: Kind, name: str) -> ApiError:
    """404 for a PUT below a resource that does not exist (Azure's code for it)."""
    return ApiError(
        404,
        "ParentResourceNotFound",
        f"The parent {kind.value} '{name}' does not exist, so that nothing can be created in it. "
        f"Create the {kind.value} first, or correct its name in the path.",
        target=f"{kind.value}Name",
    )


def being_deleted(kind: Kind, name: str) -> ApiError:
    """409 for a change of something that is on its way out, or below such a thing."""
    return ApiError(
        409,
        "ResourceBeingDeleted",
        f"The {_word(kind)} '{name}' is being deleted. Wait until a GET of it answers 404, then try again, "
        "or use another name.",
        target=f"{kind.value}Name",
    )


def conflict(kind: Kind, name: str, properties: Sequence[str], way_out: str) -> ApiError:
    """409 for a PUT that describes an existing resource differently; names what differs."""
    shown = ", ".join(properties[:10]) + (", ..." if len(properties) > 10 else "")
    return ApiError(
        409,
        "Conflict",
        f"The {_word(kind)} '{name}' exists already with a different value of {shown}. {way_out}",
        target=properties[0],
    )


def invalid_value(target: str, message: str) -> ApiError:
    """400 for a parameter of the query or path."""
    return ApiError(400, "InvalidPropertyValue", message, target=target)


async def answer_api_error(_: Request, error: ApiError) -> Response:
    """Exception handler of ApiError."""
    return error.response()


async def answer_invalid_resource(_: Request, error: InvalidResource) -> Response:
    """Exception handler of InvalidResource: the description or a name is wrong."""
    return error_response(400, error.to_json())


async def answer_unavailable(_: Request, error: StoreError) -> Response:
    """Exception handler of a database that cannot be had now; clients repeat a 503 by themselves."""
    log.warning("database unavailable", error=str(error))
    problem = Problem("ServiceUnavailable", f"{error}. Nothing was changed; try again in a moment.")
    return error_response(503, problem.to_json(), {"Retry-After": "1", **CLOSING})


async def answer_http_exception(request: Request, error: HTTPException) -> Response:
    """Exception handler of what the router refuses: unknown path, wrong method."""
    path = request.scope["path"]
    if error.status_code == 405:
        allowed = _allowed_methods(request)
        message = f"{request.method} is not possible at {path}. Possible here: {', '.join(allowed)}."
        headers = {"Allow": ", ".join(allowed), **GATEWAY}
        return error_response(405, Problem("MethodNotAllowed", message).to_json(), headers)
    if error.status_code == 404:
        message = f"There is nothing at {path}. The paths that exist are described at /openapi.json."
        code = "InvalidResourceType" if "/providers/" in path else "NotFound"
        return error_response(404, Problem(code, message).to_json(), GATEWAY)
    return error_response(error.status_code, Problem("BadRequest", str(error.detail)).to_json(), GATEWAY)


def _allowed_methods(request: Request) -> list[str]:
    methods: set[str] = set()
    for route in request.app.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            methods |= set(getattr(route, "methods", None) or ())
    return sorted(methods)


EXCEPTION_HANDLERS: dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]] = {
    ApiError: answer_api_error,
    InvalidResource: answer_invalid_resource,
    StoreUnavailable: answer_unavailable,
    StoreClosed: answer_unavailable,
    HTTPException: answer_http_exception,
}


class FailureMiddleware:
    """The last resort: an unexpected exception is logged and answered as 500 with an id to find it by."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, watch)
        except Exception:
            tracking = scope.get(REQUEST_ID, "")
            # As plain text: a renderer that shows local variables would show secrets.
            log.error(
                "request failed",
                method=scope["method"],
                path=scope["path"],
                tracking_id=tracking,
                exception=traceback.format_exc(),
            )
            if started:
                raise
            timestamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
            parts = scope["path"].split("/")
            subscription = parts[2] if len(parts) > 2 and parts[1] == "subscriptions" else ""
            message = (
                f"Encountered internal server error. Diagnostic information: timestamp '{timestamp}', subscription id "
                f"'{subscription}', tracking id '{tracking}', request correlation id '{tracking}'. "
                "The service's log says more under this id; trying again may help."
            )
            answer = error_response(500, Problem("InternalServerError", message).to_json(), {**GATEWAY, **CLOSING})
            await answer(scope, receive, send)
