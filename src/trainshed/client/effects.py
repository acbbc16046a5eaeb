"""What an operation asks of the world, as values: so that the sync and the async client share every operation.

An operation is a generator (``Steps``) that yields effects and is sent their results. ``SyncDriver`` and
``AsyncDriver`` carry them out; a driver throws ``TransportFailure`` into the generator when an
exchange could not be completed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")


class TransportFailure(Exception):
    """The exchange was not completed: refused, reset, timed out."""


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request. ``path`` begins with ``/``, or is an absolute URL that the service gave."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    #: JSON text or raw bytes; or else a file, which is streamed and may be read again for a retry.
    body: bytes | None = None
    file: Path | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    #: Whether to send the token. A signed link carries its own right, and may lead to another host.
    authorised: bool = True
    #: Longest silence in seconds before the exchange counts as lost.
    timeout: float = 60.0
    #: Called with the size of each piece of ``file`` that travels.
    tell: Callable[[int], None] | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, whole. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""

    def json(self) -> Any:
        """The body as JSON. Raises ValueError when it is not."""
        return json.loads(self.body)


@dataclass(slots=True)
class Stream:
    """An answer whose body is read piece by piece; ``handle`` belongs to the driver."""

    status: int
    headers: Mapping[str, str]
    handle: Any


@dataclass(frozen=True, slots=True)
class Call:
    """Send a request; the result is a Reply."""

    request: Request


@dataclass(frozen=True, slots=True)
class Open:
    """Send a request and leave the body to be read; the result is a Stream."""

    request: Request


@dataclass(frozen=True, slots=True)
class Read:
    """The next bytes of a stream; the result is empty at its end."""

    stream: Stream


@dataclass(frozen=True, slots=True)
class Close:
    """Done with a stream. (Streams left open are closed when the operation ends.)"""

    stream: Stream


@dataclass(frozen=True, slots=True)
class Sleep:
    """Let time pass."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Relocate:
    """Find the service again: it may have been restarted on another port. The result is whether one was found."""


@dataclass(frozen=True, slots=True)
class Blocking:
    """Work on the local disk; the async driver moves it off the event loop. The result is the function's."""

    work: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Emit:
    """Hand an item to whoever iterates over the operation."""

    item: Any


Effect: TypeAlias = Call | Open | Read | Close | Sleep | Relocate | Blocking | Emit
Steps: TypeAlias = Generator[Effect, Any, T]
