"""``AsyncClient``: the same operations, carried out on an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any, TypeVar

import httpx

from trainshed.client.client import Nouns
from trainshed.client.connection import Connection, find_service
from trainshed.client.drivers import Addressing, WarningListener, client_options, describe, failure, timeouts
from trainshed.client.effects import (
    Blocking,
    Call,
    Close,
    Effect,
    Emit,
    Open,
    Read,
    Relocate,
    Reply,
    Request,
    Sleep,
    Steps,
    Stream,
    TransportFailure,
)
from trainshed.client.noun import Async
from trainshed.client.scope import Scope

T = TypeVar("T")
_PIECE = 1 << 20
_END = object()


class AsyncDriver:
    """Runs operations on the running event loop; disk work goes to threads."""

    def __init__(self, locate: Callable[[], Connection], on_warning: WarningListener | None = None) -> None:
        self._addressing = Addressing(locate, on_warning)
        self._http = httpx.AsyncClient(**client_options(self._addressing.connection))

    @property
    def connection(self) -> Connection:
        return self._addressing.connection

    async def close(self) -> None:
        await self._http.aclose()

    async def run(self, steps: Steps[T]) -> T:
        """The operation's result."""
        result: list[T] = []
        async for _ in self._drive(steps, result):
            pass
        return result[0]

    async def iterate(self, steps: Steps[Any]) -> AsyncIterator[Any]:
        """What the operation emits, as it comes."""
        async for item in self._drive(steps, []):
            yield item

    async def _drive(self, steps: Steps[T], result: list[T]) -> AsyncIterator[Any]:
        opened: list[Stream] = []
        try:
            effect = next(steps)
            while True:
                if isinstance(effect, Emit):
                    yield effect.item
                    effect = steps.send(None)
                    continue
                try:
                    answer = await self._perform(effect)
                except Exception as error:
                    effect = steps.throw(error)
                    continue
                if isinstance(answer, Stream):
                    opened.append(answer)
                effect = steps.send(answer)
        except StopIteration as stop:
            result.append(stop.value)
        finally:
            steps.close()
            for stream in opened:
                with suppress(Exception):
                    await stream.handle[0].aclose()

    async def _perform(self, effect: Effect) -> Any:
        match effect:
            case Call(request):
                reply = await self._send(request, stream=False)
                return Reply(reply.status_code, dict(reply.headers), reply.content)
            case Open(request):
                reply = await self._send(request, stream=True)
                return Stream(reply.status_code, dict(reply.headers), (reply, reply.aiter_bytes()))
            case Read(stream):
                try:
                    piece = await anext(stream.handle[1], _END)
                except httpx.TransportError as error:
                    raise TransportFailure(describe(error)) from error
                return b"" if piece is _END else piece
            case Close(stream):
                await stream.handle[0].aclose()
            case Sleep(seconds):
                await asyncio.sleep(seconds)
            case Relocate():
                return await asyncio.to_thread(self._addressing.relocate)
            case Blocking(work):
                return await asyncio.to_thread(work)
        return None

    async def _send(self, request: Request, *, stream: bool) -> httpx.Response:
        content: Any = request.body if request.file is None else _pieces(request)
        try:
            built = self._http.build_request(
                request.method,
                self._addressing.url(request),
                params=dict(request.query) or None,
                content=content,
                headers=self._addressing.headers(request),
                timeout=timeouts(request),
            )
            reply = await self._http.send(built, stream=stream)
        except httpx.TransportError as error:
            raise failure(error) from error
        self._addressing.warn(reply.headers)
        return reply


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    assert request.file is not None
    source = await asyncio.to_thread(request.file.open, "rb")
    try:
        while piece := await asyncio.to_thread(source.read, _PIECE):
            yield piece
            if request.tell is not None:
                request.tell(len(piece))
    finally:
        source.close()


class AsyncClient(Nouns[Async]):
    """The service, asynchronously: each method of a noun is awaited, each listing is an async iterator."""

    def __init__(
        self,
        scope: Scope | None = None,
        *,
        connection: Connection | None = None,
        on_warning: WarningListener | None = None,
    ) -> None:
        """``connection`` None: found through the environment. Raises NoServiceError when there is no service."""
        locate = find_service if connection is None else lambda: connection
        self._driver = AsyncDriver(locate, on_warning)
        super().__init__(self._driver, scope or Scope.from_environment())

    @property
    def connection(self) -> Connection:
        """Where the service is (it may have moved since the client was made)."""
        return self._driver.connection

    async def close(self) -> None:
        """Close the connections."""
        await self._driver.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
