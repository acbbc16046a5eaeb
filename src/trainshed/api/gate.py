"""What every request passes before it is routed: a caller with a token, then a known version of the API."""

from __future__ import annotations

from urllib.parse import parse_qsl

from starlette.types import ASGIApp, Receive, Scope, Send

from trainshed.api.authentication import Authenticator
from trainshed.api.errors import GATEWAY, ApiError
from trainshed.api.versions import is_versioned, version_of

#: Where handlers find the caller, the parsed query (names in lower case, first value of each) and the version.
CALLER = "trainshed.caller"
QUERY = "trainshed.query"
VERSION = "trainshed.version"

#: Open to whoever reaches the port: they hold no secrets, and probes and scrapers have no token.
OPEN_PATHS = frozenset({"/healthz", "/readyz", "/metrics", "/openapi.json"})
#: Links below it are signed.
FILES_PREFIX = "/files/"
_MOST_PARAMETERS = 100


class GateMiddleware:
    """Answers 401 without the right token, and 400 without a known api-version where one is needed."""

    def __init__(self, app: ASGIApp, authenticator: Authenticator) -> None:
        self.app = app
        self.authenticator = authenticator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path: str = scope["path"]
        try:
            scope[QUERY] = query = _parsed(scope["query_string"])
            if path not in OPEN_PATHS and not path.startswith(FILES_PREFIX):
                scope[CALLER] = await self.authenticator.caller_of(_authorization(scope))
            if is_versioned(path):
                scope[VERSION] = version_of(query)
        except ApiError as error:
            await error.response()(scope, receive, send)
            return
        await self.app(scope, receive, send)


def _authorization(scope: Scope) -> str:
    given: bytes = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
    return given.decode("latin-1").strip()


def _parsed(query: bytes) -> dict[str, str]:
    if not query:
        return {}
    try:
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=_MOST_PARAMETERS)
    except ValueError:
        raise ApiError(
            400, "InvalidRequestContent", f"The query has more than {_MOST_PARAMETERS} parameters.", headers=GATEWAY
        ) from None
    parsed: dict[str, str] = {}
    for name, value in pairs:
        parsed.setdefault(name.lower(), value)
    return parsed
