"""Personal access tokens: ``tsp_{id}_{secret}``. The service keeps the id and a digest, never the token.

The secret has 256 bits, so that a plain SHA-256 is a safe digest: there is nothing to guess (OWASP's advice to slow
hashing down is for passwords that people choose). The prefix lets secret scanners find tokens that were left somewhere.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field

PREFIX = "tsp_"
_SHAPE = re.compile(r"tsp_([0-9a-f]{24})_([A-Za-z0-9_-]{43})", re.ASCII)

#: Days that a token lives: unless said, and at most.
DEFAULT_DAYS = 30
LONGEST_DAYS = 366


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token at the moment of its making, the only one at which its text is known."""

    id: str
    text: str = field(repr=False)
    digest: bytes = field(repr=False)


def make() -> NewToken:
    """A new token."""
    id, secret = secrets.token_hex(12), secrets.token_urlsafe(32)
    text = f"{PREFIX}{id}_{secret}"
    return NewToken(id, text, digest(text))


def id_of(text: str) -> str | None:
    """The id of what looks like a token, else None."""
    match = _SHAPE.fullmatch(text)
    return match[1] if match else None


def digest(text: str) -> bytes:
    """What is stored of a token."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def matches(text: str, stored: bytes) -> bool:
    """Whether the token is the one whose digest was stored; takes as long either way."""
    return hmac.compare_digest(digest(text), stored)
