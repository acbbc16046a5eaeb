"""The HTTP server: uvicorn, with the loop's own signal handlers, and told apart when it listens."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator

import uvicorn
from starlette.types import ASGIApp

from trainshed.listening import Tls

#: Seconds that open connections (log followers, say) have to end when the service stops.
CLOSE_CONNECTIONS_SECONDS = 2


class HttpServer(uvicorn.Server):
    """uvicorn's server, told when to stop by the loop's own signal handlers, and telling when it listens."""

    def __init__(self, app: ASGIApp, on_ready: Callable[[], None], tls: Tls | None = None) -> None:
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            lifespan="off",
            http="httptools",
            server_header=False,
            date_header=True,
            timeout_graceful_shutdown=CLOSE_CONNECTIONS_SECONDS,
            timeout_keep_alive=75,
        )
        super().__init__(config)
        self._on_ready = on_ready
        config.load()
        config.ssl = None if tls is None else tls.context

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so."""
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the loop's."""
        yield

    def stop(self) -> None:
        """End open streams, then the server; a second time, at once."""
        self.force_exit = self.should_exit
        self.should_exit = True
