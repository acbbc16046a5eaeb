"""Carrying out effects synchronously, on httpx."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from time import sleep as pause
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

import httpx

from trainshed import __version__
from trainshed.client.connection import Connection
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
from trainshed.client.errors import ClientError, NoServiceError, UntrustedServiceError

T = TypeVar("T")
_PIECE = 1 << 20
#: Called with each ``Warning`` header's text.
WarningListener = Callable[[str], None]


class Driver(Protocol):
    """What a noun needs: to run an operation for its result, or to iterate over what it emits."""

    def run(self, steps: Steps[Any]) -> Any: ...

    def iterate(self, steps: Steps[Any]) -> Any: ...


class Addressing:
    """Turns requests into URLs and headers; knows when the service has moved. Shared by both drivers."""

    def __init__(self, locate: Callable[[], Connection], on_warning: WarningListener | None) -> None:
        self._locate = locate
        self._on_warning = on_warning
        self.connection = locate()
        self._known = {_origin(self.connection.url)}

    def relocate(self) -> bool:
        """Look the service up again. False while there is none."""
        try:
            self.connection = self._locate()
        except ClientError:
            return False
        self._known.add(_origin(self.connection.url))
        return True

    def url(self, request: Request) -> str:
        """Absolute URL. A link that the service gave before it moved leads to where it is now."""
        path = request.path
        if path.startswith("/"):
            return self.connection.url + path
        if _origin(path) in self._known:
            return self.connection.url + path[len(_origin(path)) :]
        return path

    def headers(self, request: Request) -> dict[str, str]:
        """The token goes to the service and to no other host."""
        headers = {"Accept": "application/json", "User-Agent": f"trainshed/{__version__}", **request.headers}
        if request.file is not None:
            headers["Content-Length"] = str(request.file.stat().st_size)
            headers.setdefault("Content-Type", "application/octet-stream")
        if request.authorised and self.connection.token and _origin(self.url(request)) == _origin(self.connection.url):
            headers["Authorization"] = f"Bearer {self.connection.token}"
        return headers

    def warn(self, headers: httpx.Headers) -> None:
        if self._on_warning is not None and "warning" in headers:
            self._on_warning(_warning_text(headers["warning"]))


class SyncDriver:
    """Runs operations in the calling thread. May be shared by threads."""

    def __init__(self, locate: Callable[[], Connection], on_warning: WarningListener | None = None) -> None:
        self._addressing = Addressing(locate, on_warning)
        self._http = httpx.Client(**client_options(self._addressing.connection))

    @property
    def connection(self) -> Connection:
        return self._addressing.connection

    def close(self) -> None:
        self._http.close()

    def run(self, steps: Steps[T]) -> T:
        """The operation's result."""
        driving = self._drive(steps)
        while True:
            try:
                next(driving)
            except StopIteration as stop:
                result: T = stop.value
                return result

    def iterate(self, steps: Steps[Any]) -> Iterator[Any]:
        """What the operation emits, as it comes."""
        yield from self._drive(steps)

    def _drive(self, steps: Steps[T]) -> Generator[Any, None, T]:
        opened: list[Stream] = []
        try:
            effect = next(steps)
            while True:
                if isinstance(effect, Emit):
                    yield effect.item
                    effect = steps.send(None)
                    continue
                try:
                    answer = self._perform(effect)
                except Exception as error:
                    effect = steps.throw(error)
                    continue
                if isinstance(answer, Stream):
                    opened.append(answer)
                effect = steps.send(answer)
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            steps.close()
            for stream in opened:
                with suppress(Exception):
                    stream.handle[0].close()

    def _perform(self, effect: Effect) -> Any:
        match effect:
            case Call(request):
                reply = self._send(request, stream=False)
                return Reply(reply.status_code, _plain(reply.headers), reply.content)
            case Open(request):
                reply = self._send(request, stream=True)
                return Stream(reply.status_code, _plain(reply.headers), (reply, reply.iter_bytes()))
            case Read(stream):
                try:
                    return next(stream.handle[1], b"")
                except httpx.TransportError as error:
                    raise TransportFailure(describe(error)) from error
            case Close(stream):
                stream.handle[0].close()
            case Sleep(seconds):
                pause(seconds)
            case Relocate():
                return self._addressing.relocate()
            case Blocking(work):
                return work()
        return None

    def _send(self, request: Request, *, stream: bool) -> httpx.Response:
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
            reply = self._http.send(built, stream=stream)
        except httpx.TransportError as error:
            raise failure(error) from error
        self._addressing.warn(reply.headers)
        return reply


def client_options(connection: Connection) -> dict[str, Any]:
    """Options of both httpx clients."""
    return {
        "verify": _trusted(connection),
        # A proxy of the environment does not reach a service on this machine.
        "trust_env": not _is_loopback(connection.url),
        "follow_redirects": False,
    }


def _trusted(connection: Connection) -> ssl.SSLContext:
    """Whose certificates are believed. Loaded only where there is TLS (they take 20 ms); otherwise nobody's are, so
    that a service that moves to HTTPS meanwhile is not believed unseen.
    """
    if not connection.url.startswith("https://"):
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        return ssl.create_default_context(cafile=connection.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise NoServiceError(
            f"{connection.ca_file} (TRAINSHED_CA_FILE) holds no certificate: {error}",
            "give the file with the certificate (PEM) that vouches for the service's",
        ) from None


def failure(error: httpx.TransportError) -> Exception:
    """An httpx error as operations know it. A certificate that is not trusted will not be so the next time."""
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return UntrustedServiceError(f"the service's certificate is not trusted: {error}")
    return TransportFailure(describe(error))


def timeouts(request: Request) -> httpx.Timeout:
    """Connecting is quick or hopeless; answering takes as long as the request allows."""
    return httpx.Timeout(request.timeout, connect=min(request.timeout, 5.0))


def describe(error: Exception) -> str:
    """An httpx error in words; some have no text of their own."""
    return str(error) or type(error).__name__


def _pieces(request: Request) -> Iterator[bytes]:
    assert request.file is not None
    with request.file.open("rb") as source:
        while piece := source.read(_PIECE):
            yield piece
            if request.tell is not None:
                request.tell(len(piece))


def _plain(headers: httpx.Headers) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def _warning_text(header: str) -> str:
    """``299 - "text"`` -> text (RFC 7234 section 5.5)."""
    first, last = header.find('"'), header.rfind('"')
    return header[first + 1 : last].replace('\\"', '"') if 0 <= first < last else header
