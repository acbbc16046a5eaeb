"""A test double of the service: a real HTTP server on a loopback port whose answers a test writes down."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "stub-token"
WORKSPACE = (
    "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/trainshed"
    "/providers/Microsoft.BatchAI/workspaces/default"
)
EXPERIMENT = f"{WORKSPACE}/experiments/default"


@dataclass(frozen=True)
class Asked:
    """A request that arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """What to answer. ``pieces`` are sent as chunks; ``break_off`` closes the connection before the end is told."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    pieces: tuple[bytes, ...] | None = None
    break_off: bool = False
    #: Bytes that Content-Length announces beyond those that are sent before the connection is closed.
    missing: int = 0


def answer(value: Any, status: int = 200, **headers: str) -> Answer:
    """An answer of JSON."""
    sent = {name.replace("_", "-"): text for name, text in headers.items()}
    return Answer(status, json.dumps(value).encode(), sent)


def refusal(status: int, code: str, message: str, **more: Any) -> Answer:
    """An answer in the shape of the contract's errors."""
    return answer({"error": {"code": code, "message": message, **more}}, status)


Handler = Callable[[Asked], Answer]


class StubService:
    """Holds routes and what was asked."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self._routes: dict[tuple[str, str], Handler] = {}
        self._lock = threading.Lock()
        stub = self

        class Requests(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: Any) -> None:
                pass

            def handle_any(self) -> None:
                stub._handle(self)

            do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = handle_any  # noqa: N815

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Requests)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def on(self, method: str, path: str, *answers: Answer | Handler) -> None:
        """Answer this route: with each of ``answers`` in turn, and from then on with the last."""
        left = list(answers)

        def handler(asked: Asked) -> Answer:
            with self._lock:
                chosen = left.pop(0) if len(left) > 1 else left[0]
            return chosen(asked) if callable(chosen) else chosen

        self._routes[(method, path)] = handler

    def requests(self, method: str, path: str) -> list[Asked]:
        return [asked for asked in self.asked if (asked.method, asked.path) == (method, path)]

    def _handle(self, request: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(request.path)
        body = self._body(request)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        headers = {name.lower(): value for name, value in request.headers.items()}
        asked = Asked(request.command, unquote(parts.path), query, headers, body)
        self.asked.append(asked)
        handler = self._routes.get((asked.method, asked.path))
        if handler is None:
            code = "WorkspaceNotFound" if asked.path == WORKSPACE else "ResourceNotFound"
            reply = refusal(404, code, f"nothing at {asked.path}")
        else:
            reply = handler(asked)
        self._send(request, reply)

    @staticmethod
    def _body(request: BaseHTTPRequestHandler) -> bytes:
        length = int(request.headers.get("Content-Length") or 0)
        return request.rfile.read(length)

    @staticmethod
    def _send(request: BaseHTTPRequestHandler, reply: Answer) -> None:
        if reply.break_off and reply.pieces is None:
            request.close_connection = True
            return
        request.send_response(reply.status)
        for name, value in reply.headers.items():
            request.send_header(name, value)
        if reply.pieces is None:
            request.send_header("Content-Length", str(len(reply.body) + reply.missing))
            request.end_headers()
            request.wfile.write(reply.body)
            request.close_connection = request.close_connection or bool(reply.missing)
            return
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        for piece in reply.pieces:
            request.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        if reply.break_off:
            request.close_connection = True
        else:
            request.wfile.write(b"0\r\n\r\n")


@contextmanager
def running_stub() -> Iterator[StubService]:
    """A stub that is there while the block runs."""
    stub = StubService()
    try:
        yield stub
    finally:
        stub.close()
