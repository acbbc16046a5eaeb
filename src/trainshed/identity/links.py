"""Signed links: whoever holds one may read one file until it expires, without a token (rest-contract section 9)."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from urllib.parse import urlencode

from trainshed.identity.vault import Vault

#: What a link allows; the contract's links carry the same two letters (read and list).
_PERMISSIONS = "rl"
_TIME = "%Y-%m-%dT%H:%M:%SZ"


class LinkRefused(Exception):
    """The link is not one that this service signed, or it has expired; the message says which."""


class LinkSigner:
    """Signs and checks links with a key of its own, asked for each time: it may change."""

    def __init__(self, key: Callable[[], bytes]) -> None:
        self._key = key

    @classmethod
    def from_vault(cls, vault: Vault) -> LinkSigner:
        """A signer whose key follows from the vault's: links stay good over restarts, until the vault's key changes."""
        return cls(lambda: vault.derive("links"))

    def query(self, path: str, expires_at_ms: int) -> str:
        """The query that makes ``path`` (decoded) readable until the time given, cut to seconds as ``se`` shows it."""
        expiry = datetime.fromtimestamp(expires_at_ms // 1000, UTC).strftime(_TIME)
        return urlencode({"se": expiry, "sp": _PERMISSIONS, "sig": self._signature(path, expiry)})

    def check(self, path: str, query: Mapping[str, str], now_ms: int) -> None:
        """Raises LinkRefused unless the query was signed for this path and has not expired."""
        expiry = query.get("se", "")
        signature = query.get("sig", "").encode("utf-8", "surrogateescape")
        good = hmac.compare_digest(signature, self._signature(path, expiry).encode())
        if not good or query.get("sp") != _PERMISSIONS:
            raise LinkRefused("the signature does not belong to this link")
        if now_ms >= datetime.strptime(expiry, _TIME).replace(tzinfo=UTC).timestamp() * 1000:
            raise LinkRefused(f"it expired at {expiry}")

    def _signature(self, path: str, expiry: str) -> str:
        # Length first: no other pair of path and expiry makes the same text.
        text = f"{len(expiry)}\n{expiry}\n{_PERMISSIONS}\n{path}".encode("utf-8", "surrogateescape")
        return base64.urlsafe_b64encode(hmac.digest(self._key(), text, hashlib.sha256)).rstrip(b"=").decode()
