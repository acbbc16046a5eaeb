"""An OpenID issuer on loopback: discovery, keys and tokens, as Entra ID, Keycloak or Dex give them."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey, RSAKey

AUDIENCE = "trainshed"


class LoopbackIssuer:
    """A context manager: ``url`` while it runs. ``keys`` are published, ``token`` signs with the first of them."""

    def __init__(self) -> None:
        self.keys: list[Any] = [RSAKey.generate_key(2048, {"kid": "rsa-1", "use": "sig"})]
        self.reads = 0
        self.down = False
        #: Put into the discovery document in place of what belongs there.
        self.discovery: dict[str, Any] = {}
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner._answer(self)

            def log_message(self, *_: object) -> None:
                """Silent."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/realms/lab"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        documents: dict[str, Any] = {
            "/realms/lab/.well-known/openid-configuration": {
                "issuer": self.url, "jwks_uri": f"{self.url}/certs", **self.discovery
            },
            "/realms/lab/certs": {"keys": [key.as_dict(private=False) for key in self.keys]},
        }  # fmt: skip
        self.reads += 1
        found = documents.get(request.path)
        body = json.dumps(found).encode() if found is not None else b"{}"
        request.send_response(503 if self.down else 200 if found is not None else 404)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def claims(self, now: float, **changed: Any) -> dict[str, Any]:
        """What a good token says; a claim that is given as None is left out."""
        claims = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "subject-1",
            "preferred_username": "ann@example.org",
            "name": "Ann",
            "iat": int(now),
            "nbf": int(now),
            "exp": int(now) + 3600,
        } | changed
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, now: float, key: Any = None, header: dict[str, Any] | None = None, **changed: Any) -> str:
        """A token, signed with ``key`` or the first published one."""
        key = key or self.keys[0]
        algorithm = {"RSA": "RS256", "EC": "ES256", "OKP": "Ed25519"}[key.key_type]
        full = {"alg": algorithm, "kid": key.kid, "typ": "JWT"} | (header or {})
        full = {name: value for name, value in full.items() if value is not None}
        text = jwt.encode(full, self.claims(now, **changed), key, algorithms=[full["alg"]])
        return text if isinstance(text, str) else text.decode()


def other_keys() -> list[Any]:
    """Keys of the other types that may sign."""
    return [ECKey.generate_key("P-256", {"kid": "ec-1"}), OKPKey.generate_key("Ed25519", {"kid": "okp-1"})]
