"""A proxy on loopback that loses answers: the request arrives, and the client hears 504. What repeats must be right."""

from __future__ import annotations

import http.client
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

#: Seconds that the service may take for one answer.
PATIENCE = 30.0
_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "upgrade", "content-length"}
_BODY = b'{"error":{"code":"GatewayTimeout","message":"The gateway did not receive a response in time."}}'


@dataclass
class Fault:
    """Answer the first request that fits with ``status``. ``passed``: the service gets it all the same."""

    method: str
    #: Fits when it is found in the path without the query.
    path: str
    status: int = 504
    passed: bool = True
    done: bool = False

    def fits(self, method: str, path: str) -> bool:
        return not self.done and method == self.method and re.search(self.path, path) is not None


@dataclass(frozen=True)
class Seen:
    """One request: what the service said (None when it did not get it), and what the client heard."""

    method: str
    path: str
    said: int | None
    heard: int


@dataclass
class FaultyProxy:
    """Where it listens, what it spoils, and what came by."""

    url: str
    faults: list[Fault]
    seen: list[Seen] = field(default_factory=list)

    def of(self, fault: Fault) -> list[Seen]:
        """The requests that fit the fault, in order; the first of them was spoiled."""
        return [one for one in self.seen if one.method == fault.method and re.search(fault.path, one.path)]


@contextmanager
def faulty_proxy(upstream: str, faults: list[Fault]) -> Iterator[FaultyProxy]:
    """A proxy to ``upstream`` while the block runs. The Host header goes through, so that links lead back here."""
    lock = threading.Lock()
    host = urlsplit(upstream).netloc

    class Requests(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass(self) -> None:
            path = urlsplit(self.path).path
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with lock:
                fault = next((fault for fault in proxy.faults if fault.fits(self.command, path)), None)
                if fault is not None:
                    fault.done = True
            said, headers, answer = None, [], _BODY
            if fault is None or fault.passed:
                connection = http.client.HTTPConnection(host, timeout=PATIENCE)
                try:
                    given = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
                    connection.request(self.command, self.path, body or None, given)
                    got = connection.getresponse()
                    said, headers, answer = got.status, got.getheaders(), got.read()
                finally:
                    connection.close()
            heard = fault.status if fault is not None else said
            assert heard is not None
            with lock:
                proxy.seen.append(Seen(self.command, path, said, heard))
            if fault is not None:
                headers, answer = [("Content-Type", "application/json"), ("Connection", "close")], _BODY
                self.close_connection = True
            self.send_response(heard)
            for name, value in headers:
                if name.lower() not in _HOP - {"connection"}:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = _pass  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: the record is in ``seen``."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Requests)
    proxy = FaultyProxy(f"http://127.0.0.1:{server.server_address[1]}", faults)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join(PATIENCE)
