"""A node's calls to the service where they share no file system."""

from __future__ import annotations

import hashlib
import http.client
import json
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

#: Seconds that a call may take, and between two tries.
_SECONDS, _PAUSE = 30.0, 0.5
_OK, _NO_CONTENT, LATER = 200, 204, 202
#: What tells a node that its job is over, or was never: nothing of it may go on.
_GONE = (401, 404, 410)


class Gone(Exception):
    """The service wants nothing of this run any more."""


class Away(Exception):
    """The service could not be reached, or has no room now; later is right."""


class Wrong(Exception):
    """The service does not take what it was sent."""


@dataclass(frozen=True, slots=True)
class Relay:
    """Where the service listens, whose certificate it has, and as which job one calls."""

    host: str
    port: int
    #: SHA-256 of the certificate.
    fingerprint: str
    ticket: str
    token: str


class Line:
    """One connection, opened anew when it was cut. For one thread."""

    def __init__(self, relay: Relay, seconds: float = _SECONDS) -> None:
        """``seconds``: that a call may take beyond what it waits for."""
        self._relay = relay
        self._seconds = seconds
        self._connection: http.client.HTTPSConnection | None = None

    def tell(self, name: str, message: Mapping[str, Any], *, wait: float = 0.0) -> tuple[int, dict[str, Any]]:
        """One call: status and answer. Raises Away, Gone, Wrong."""
        status, body = self._call("POST", name, json.dumps(message).encode(), wait)
        return status, json.loads(body) if body else {}

    def insist(self, name: str, message: Mapping[str, Any], until: float) -> None:
        """The same until it is taken, or until this monotonic second. Raises Away, Gone, Wrong."""
        self.again(lambda: self.tell(name, message), until)

    def again(self, call: Callable[[], object], until: float) -> None:
        """Repeat a call that raises Away, until this monotonic second. Raises Away."""
        while True:
            try:
                call()
                return
            except Away:
                if time.monotonic() > until:
                    raise
                time.sleep(_PAUSE)

    def send(self, values: Mapping[str, str | int], data: bytes) -> None:
        """A piece of a file. Raises Away, Gone, Wrong."""
        self._call("POST", f"file?{urlencode(values, errors='surrogateescape')}", data, 0.0)

    def fetch(self, name: str, sha256: str, target: Path) -> None:
        """A file of this content. Raises Away, Gone, Wrong, OSError."""
        _, body = self._call("GET", name, None, 0.0)
        if hashlib.sha256(body).hexdigest() != sha256:
            raise Wrong(f"{name} has another content")
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        target.write_bytes(body)

    def close(self) -> None:
        """Hang up."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _call(self, method: str, name: str, body: bytes | None, wait: float) -> tuple[int, bytes]:
        relay = self._relay
        try:
            connection = self._connected(self._seconds + wait)
            headers = {"Authorization": f"Bearer {relay.token}"}
            connection.request(method, f"/v1/{relay.ticket}/{name}", body, headers)
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Away(f"{relay.host}:{relay.port} cannot be reached: {error}") from error
        if answer.status in (_OK, _NO_CONTENT, LATER):
            return answer.status, content
        said = content.decode(errors="replace")[:500]
        if answer.status in _GONE:
            raise Gone(said or f"{name}: {answer.status}")
        if answer.status in (400, 413):
            raise Wrong(said)
        raise Away(f"{name}: {answer.status} {said}")

    def _connected(self, seconds: float) -> http.client.HTTPSConnection:
        if self._connection is None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            # The certificate is known by its fingerprint.
            context.verify_mode = ssl.CERT_NONE
            self._connection = http.client.HTTPSConnection(
                self._relay.host, self._relay.port, timeout=seconds, context=context
            )
            self._connection.connect()
            shown = self._connection.sock.getpeercert(True) or b""
            if hashlib.sha256(shown).hexdigest() != self._relay.fingerprint:
                raise OSError("somebody else answers there: the certificate is not the service's")
        self._connection.sock.settimeout(seconds)
        return self._connection
