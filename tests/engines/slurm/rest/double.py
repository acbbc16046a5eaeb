"""Stands in for a slurmrestd of a later version than Debian's (a double): shapes as its OpenAPI document has them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def value(number: int | None) -> dict[str, Any]:
    """``uint32_no_val`` of the documents."""
    return {"set": number is not None, "infinite": False, "number": number or 0}


class Dropped(Exception):
    """Instead of an answer: the connection is dropped."""


@dataclass
class Slurmrestd:
    """Answers calls with this token; what it was sent is in ``got``: method, path, user, body."""

    versions: tuple[str, ...] = ("v0.0.40", "v0.0.41")
    token: str = "a.b.c"
    got: list[tuple[str, str, str, Any]] = field(default_factory=list)
    jobs: list[dict[str, Any]] = field(default_factory=list)
    #: Answers other than the usual, by method and end of the path: status and body.
    answers: dict[tuple[str, str], tuple[int, Any]] = field(default_factory=dict)
    accounting: bool = False

    def __enter__(self) -> Slurmrestd:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(lambda *given: self.answer(*given)))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def answer(self, method: str, path: str, user: str, token: str, body: Any) -> tuple[int, Any]:
        """Status and body of an answer."""
        self.got.append((method, path, user, body))
        meta = {
            "slurm": {"version": {"major": "24", "minor": "05", "micro": "1"}, "release": "24.05.1", "cluster": "c"}
        }
        ok: dict[str, Any] = {"meta": meta, "errors": [], "warnings": [{"description": "deprecated", "source": "x"}]}
        if token != self.token:
            return 401, {**ok, "errors": [{"error_number": 1007, "error": "Protocol authentication error"}]}
        if path == "/openapi/v3":
            return 200, {"openapi": "3.0.3", "paths": {path: {} for path in self._paths()}}
        version, _, name = path.removeprefix("/slurmdb/").removeprefix("/slurm/").partition("/")
        if version not in self.versions:
            return 404, {}
        for (its_method, end), (status, told) in self.answers.items():
            if its_method == method and name.rstrip("/").endswith(end):
                return status, told
        if method == "POST":
            return 200, {**ok, "job_id": 4711, "step_id": "batch", "result": {"job_id": 4711, "error_code": 0}}
        if method == "DELETE":
            return 200, ok
        return 200, ok | self._told(name.rstrip("/"))

    def _told(self, name: str) -> dict[str, Any]:
        if name == "ping":
            return {"pings": [{"hostname": "head", "pinged": "UP", "latency": 70, "mode": "primary"}]}
        if name == "nodes":
            node = {"name": "n1", "address": "n1", "cpus": 8, "real_memory": 1000, "gres": "", "partitions": ["gpu"]}
            return {"nodes": [{**node, "state": ["IDLE", "CLOUD"], "reason": ""}], "last_update": value(1)}
        if name == "partitions":
            return {"partitions": [{"name": "gpu", "maximums": {"time": value(60)}}], "last_update": value(1)}
        if name == "associations":
            return {"associations": [{"account": "ml", "user": "ann"}, {"account": "ml", "user": ""}]}
        if name.startswith("job/"):
            return {"jobs": [{"job_id": int(name.removeprefix("job/")), "state": {"current": ["TIMEOUT"]}}]}
        return {"jobs": self.jobs, "last_update": value(1), "last_backfill": value(1)}

    def _paths(self) -> list[str]:
        names = ["jobs/", "job/submit", "job/{job_id}", "nodes/", "partitions/", "ping/"]
        found = [f"/slurm/{version}/{name}" for version in self.versions for name in names]
        if self.accounting:
            found += [f"/slurmdb/{v}/{name}" for v in self.versions for name in ("job/{job_id}", "associations/")]
        return found


def _handler(answer: Callable[[str, str, str, str, Any], tuple[int, Any]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _reply(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            headers = (self.headers.get(f"X-SLURM-USER-{name}", "") for name in ("NAME", "TOKEN"))
            user, token = headers
            try:
                status, told = answer(self.command, self.path, user, token, body)
            except Dropped:
                self.close_connection = True
                return
            content = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = _reply  # noqa: N815 - names of the library

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    return Handler
