"""The headers that every answer carries (rest-contract section 1). Pure ASGI: it costs a few microseconds."""

from __future__ import annotations

import time
import uuid

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trainshed import __version__
from trainshed.api.errors import REQUEST_ID

_FIXED = [
    (b"cache-control", b"no-cache"),
    (b"pragma", b"no-cache"),
    (b"expires", b"-1"),
    (b"x-content-type-options", b"nosniff"),
    (b"strict-transport-security", b"max-age=31536000; includeSubDomains"),
    (b"server", f"trainshed/{__version__}".encode()),
]
#: Clients slow down when these run low. Nothing is limited here, so they never do.
_REMAINING = {
    "GET": (b"x-ms-ratelimit-remaining-subscription-reads", b"14999"),
    "HEAD": (b"x-ms-ratelimit-remaining-subscription-reads", b"14999"),
    "DELETE": (b"x-ms-ratelimit-remaining-subscription-deletes", b"14999"),
}
_REMAINING_WRITES = (b"x-ms-ratelimit-remaining-subscription-writes", b"1199")


class HeadersMiddleware:
    """Gives each request an id and adds the headers to its answer."""

    def __init__(self, app: ASGIApp, location: str) -> None:
        self.app = app
        self.region = "".join(char for char in location.upper() if char.isalnum() and char.isascii())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = str(uuid.uuid4())
        scope[REQUEST_ID] = request_id

        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self._added(scope, message, request_id.encode())]
            await send(message)

        await self.app(scope, receive, add)

    def _added(self, scope: Scope, message: Message, request_id: bytes) -> list[tuple[bytes, bytes]]:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        added = [
            *_FIXED,
            (b"x-ms-request-id", request_id),
            (b"x-ms-correlation-request-id", request_id),
            (b"x-ms-routing-request-id", f"{self.region}:{stamp}:{uuid.uuid4()}".encode()),
        ]
        if scope["path"].startswith("/subscriptions/"):
            added.append(_REMAINING.get(scope["method"], _REMAINING_WRITES))
        # Azure's front end answers errors of its own without it; so do we for what never reached a resource.
        if not any(name == b"x-ms-failure-cause" for name, _ in message["headers"]):
            added.append((b"request-id", request_id))
        return added
