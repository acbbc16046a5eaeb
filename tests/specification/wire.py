"""Requests and answers as bytes, and two ways to exchange them: in this process (ASGI) and over a socket."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from starlette.types import ASGIApp, Message, Scope

#: Seconds within which every request must be answered.
PATIENCE = 20.0


@dataclass(frozen=True)
class Request:
    """What goes over the wire. ``target`` is the path and query as they are sent."""

    method: str
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""

    def __str__(self) -> str:
        headers = ", ".join(f"{name!r}: {value[:80]!r}" for name, value in self.headers if name != b"Authorization")
        return f"{self.method} {self.target!r} [{headers}] {self.body[:1500]!r}"


@dataclass(frozen=True)
class Answer:
    """What came back. Names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes = b""
    #: Names that occurred more than once.
    repeated: frozenset[str] = field(default_factory=frozenset)

    def json(self) -> Any:
        """The body; NaN and repeated members are no JSON."""
        return json.loads(self.body.decode("utf-8"), parse_constant=_refuse, object_pairs_hook=_unique)


Send = Callable[[Request], Answer]


async def in_process(app: ASGIApp, request: Request) -> Answer:
    """Ask the application itself, as the server would: path decoded, header names in lower case."""
    raw_path, _, query = request.target.partition(b"?")
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": unquote(raw_path.decode("ascii")),
        "raw_path": raw_path,
        "query_string": query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers],
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 12345),
        "state": {},
    }
    sent: list[Message] = []
    pending: list[Message] = [{"type": "http.request", "body": request.body, "more_body": False}]
    done = asyncio.Event()

    async def receive() -> Message:
        if pending:
            return pending.pop()
        await done.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    async with asyncio.timeout(PATIENCE):
        await app(scope, receive, send)
    done.set()
    assert [message["type"] for message in sent].count("http.response.start") == 1, f"not one answer to {request}"
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return _answer(sent[0]["status"], sent[0]["headers"], body)


def over_socket(host: str, port: int) -> Send:
    """Ask a server: one connection for each request, so that no answer is taken for another's."""

    def send(request: Request) -> Answer:
        head = [request.method.encode() + b" " + request.target + b" HTTP/1.1"]
        names = {name.lower() for name, _ in request.headers}
        head += [name + b": " + value for name, value in request.headers]
        if b"host" not in names:
            head.append(b"Host: %s:%d" % (host.encode(), port))
        if b"content-length" not in names and (request.body or request.method in ("PUT", "POST", "PATCH")):
            head.append(b"Content-Length: %d" % len(request.body))
        head.append(b"Connection: close")
        with socket.create_connection((host, port), PATIENCE) as connection:
            connection.sendall(b"\r\n".join(head) + b"\r\n\r\n" + request.body)
            response = http.client.HTTPResponse(connection, method=request.method)
            response.begin()
            body = response.read()
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.getheaders()]
        return _answer(response.status, headers, body)

    return send


def _answer(status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> Answer:
    named: dict[str, str] = {}
    repeated = set()
    for raw_name, value in headers:
        name = raw_name.decode("latin-1").lower()
        if name in named:
            repeated.add(name)
        named[name] = value.decode("latin-1")
    return Answer(status, named, body, frozenset(repeated))


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError(f"repeated members: {[name for name, _ in pairs]}")
    return made
