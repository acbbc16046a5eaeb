"""The relay: nodes that share no file system with the service call it over HTTPS, each with the token of its job.

``/v1/TICKET/...``, with ``Authorization: Bearer TOKEN``. 410 tells a node that its run is over: it ends. 202 and 507
mean later. What is told to nodes waits in an open call until there is something, or for some seconds.
"""

from __future__ import annotations

import asyncio
import hmac
import re
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from trainshed.engines.slurm.node.places import Places
from trainshed.engines.slurm.records import Records, TicketRecord
from trainshed.engines.slurm.relay.certificate import certificate
from trainshed.engines.slurm.relay.filing import Filing, Full, Turned
from trainshed.http_server import HttpServer

#: Bytes of one call's body, and seconds that a node waits for what it is told.
_MOST_BYTES, _MOST_SECONDS = 16 << 20, 10.0
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)

Answer = Callable[[Request, TicketRecord], Awaitable[Response]]


class Relay:
    """One engine's."""

    def __init__(self, root: Places, records: Records, lease: float) -> None:
        self._root = root
        self._filing = Filing(root, records, lease)
        self._news = asyncio.Event()
        self._server: HttpServer | None = None
        self._serving: asyncio.Task[None] | None = None
        #: SHA-256 of the certificate, once it is started.
        self.fingerprint = ""

    async def start(self, host: str, port: int) -> None:
        """Listen. Raises OSError, CannotListen."""
        tls, self.fingerprint = await asyncio.to_thread(certificate, self._root.root)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((host, port))
        except OSError:
            listening.close()
            raise
        ready = asyncio.Event()
        self._server = HttpServer(self._app(), ready.set, tls)
        self._serving = asyncio.create_task(self._server.serve([listening]), name="relay")
        await ready.wait()

    async def close(self) -> None:
        """Nodes find nobody, and try again."""
        if self._server is not None and self._serving is not None:
            self._server.stop()
            self.tell()
            await asyncio.gather(self._serving, return_exceptions=True)
            self._server = None

    def tell(self) -> None:
        """There is something to tell to nodes."""
        self._news.set()
        self._news = asyncio.Event()

    def _app(self) -> Starlette:
        posts = {
            "begin": self._begin,
            "hosts": self._hosts,
            "beat": self._beat,
            "heard": self._heard,
            "said": self._said,
            "file": self._file,
            "logs": self._logs,
            "outcome": self._outcome,
        }
        routes = [Route(f"/v1/{{ticket}}/{name}", self._admit(act), methods=["POST"]) for name, act in posts.items()]
        routes.append(Route("/v1/{ticket}/code/{digest}", self._admit(self._code), methods=["GET"]))
        routes.append(Route("/v1/{ticket}/runner/{digest}", self._admit(self._runner), methods=["GET"]))
        return Starlette(routes=routes)

    def _admit(self, answer: Answer) -> Callable[[Request], Awaitable[Response]]:
        async def admitted(request: Request) -> Response:
            record = self._filing.ticket(request.path_params["ticket"])
            if record is None or not record.token:
                return Response(status_code=410)
            scheme, _, token = request.headers.get("authorization", "").partition(" ")
            if scheme != "Bearer" or not hmac.compare_digest(token.encode(), record.token.encode()):
                return Response(status_code=401)
            if int(request.headers.get("content-length") or 0) > _MOST_BYTES or "transfer-encoding" in request.headers:
                return Response(status_code=413)
            try:
                return await answer(request, record)
            except Turned as turned:
                return Response(str(turned), status_code=410)
            except Full:
                return Response(status_code=507)
            except (KeyError, TypeError, ValueError) as error:
                return Response(f"{type(error).__name__}: {error}", status_code=400)

        return admitted

    async def _begin(self, request: Request, record: TicketRecord) -> Response:
        asked = await request.json()
        told = await asyncio.to_thread(self._filing.begin, record, str(asked["job"]), int(asked["run"]))
        self.tell()
        return JSONResponse({"wait": told}, 202) if isinstance(told, str) else JSONResponse(told)

    async def _hosts(self, request: Request, record: TicketRecord) -> Response:
        asked = await request.json()
        await asyncio.to_thread(self._filing.hosts, record, int(asked["run"]), asked["hosts"])
        return Response(status_code=204)

    async def _beat(self, request: Request, record: TicketRecord) -> Response:
        asked = await request.json()
        numbers = [int(asked[name]) for name in ("run", "index", "told", "heard")]
        until = asyncio.get_running_loop().time() + min(_MOST_SECONDS, float(asked["wait"]))
        while True:
            news = self._news
            found: dict[str, Any] = await asyncio.to_thread(self._filing.beat, record, *numbers)
            left = until - asyncio.get_running_loop().time()
            ending = self._server is None or self._server.should_exit
            if found["told"] or found["heard"] or left <= 0 or ending or await request.is_disconnected():
                return JSONResponse(found)
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await news.wait()

    async def _heard(self, request: Request, record: TicketRecord) -> Response:
        asked = await request.json()
        await asyncio.to_thread(self._filing.heard, record, int(asked["run"]), asked["message"])
        self.tell()
        return Response(status_code=204)

    async def _said(self, request: Request, record: TicketRecord) -> Response:
        await asyncio.to_thread(self._filing.said, record, str((await request.json())["text"]))
        return Response(status_code=204)

    async def _file(self, request: Request, record: TicketRecord) -> Response:
        asked, data = request.query_params, await request.body()
        await asyncio.to_thread(
            self._filing.file,
            record,
            int(asked["run"]),
            asked["path"],
            int(asked["offset"]),
            int(asked["mode"]),
            data,
            last=asked["last"] == "1",
        )
        return Response(status_code=204)

    async def _logs(self, request: Request, record: TicketRecord) -> Response:
        asked = await request.json()
        return JSONResponse(await asyncio.to_thread(self._filing.logs, record, int(asked["run"]), asked["path"]))

    async def _outcome(self, request: Request, record: TicketRecord) -> Response:
        asked = await request.json()
        taken = await asyncio.to_thread(
            self._filing.outcome,
            record,
            int(asked["run"]),
            int(asked["index"]),
            asked["outcome"],
            signalled=bool(asked["signalled"]),
        )
        return Response(status_code=204 if taken else 202)

    async def _code(self, request: Request, record: TicketRecord) -> Response:
        run = int(request.query_params["run"])
        path = await asyncio.to_thread(self._filing.code, record, run, request.path_params["digest"])
        return FileResponse(path) if path is not None and path.is_file() else Response(status_code=404)

    async def _runner(self, request: Request, record: TicketRecord) -> Response:
        digest = request.path_params["digest"]
        path = self._filing.runner(digest)
        return FileResponse(path) if _DIGEST.fullmatch(digest) and path.is_file() else Response(status_code=404)
