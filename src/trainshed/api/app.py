"""The application: routes, and what every request passes on its way to them."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.responses import Response

from trainshed import __version__
from trainshed.api.answers import answer
from trainshed.api.authorization import OPEN
from trainshed.api.call import Call
from trainshed.api.endpoints import ENDPOINTS
from trainshed.api.errors import EXCEPTION_HANDLERS, FailureMiddleware
from trainshed.api.gate import GateMiddleware
from trainshed.api.headers import HeadersMiddleware
from trainshed.api.metrics import Metrics, MetricsMiddleware
from trainshed.api.openapi import document
from trainshed.api.paths import PathCaseMiddleware
from trainshed.api.routing import Endpoint, route
from trainshed.api.services import Services
from trainshed.api.versions import VERSION_PARAMETER, version_of

#: What shows whether the process is well.
PROBES = frozenset({"/healthz", "/readyz", "/metrics"})


class Trainshed(FastAPI):
    """FastAPI with the API's own document: bodies are read by the resource models, which say more than a schema can."""

    def openapi(self) -> dict[str, object]:
        """The newest version's. Made when it is first asked for, so that a start does not wait for it."""
        return document()


async def describe(call: Call) -> Response:
    """GET the OpenAPI document: the newest version's, or that of ``api-version``."""
    return answer(document(version_of(call.query)) if call.query.get(VERSION_PARAMETER) else document())


def create_app(services: Services, *, probes_only: bool = False) -> FastAPI:
    """The API over these services. Nothing is started: the composition root owns the database and the loops.

    ``probes_only``: only what shows whether the process is well.
    """
    app = Trainshed(
        title="Trainshed",
        version=__version__,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        exception_handlers=EXCEPTION_HANDLERS,
        redirect_slashes=False,
    )
    metrics = Metrics()
    scrape = Endpoint("GET", "/metrics", metrics.answer, "Probes_Metrics", action=OPEN)
    description = Endpoint("GET", "/openapi.json", describe, "OpenApi_Get", action=OPEN)
    app.router.routes.extend(
        route(services, endpoint)
        for endpoint in (*ENDPOINTS, scrape, description)
        if endpoint.path in PROBES or not probes_only
    )
    # Added from the inside out.
    app.add_middleware(GateMiddleware, authenticator=services.authenticator)
    app.add_middleware(FailureMiddleware)
    app.add_middleware(PathCaseMiddleware)
    app.add_middleware(MetricsMiddleware, metrics=metrics)
    app.add_middleware(HeadersMiddleware, location=services.location)
    return app
