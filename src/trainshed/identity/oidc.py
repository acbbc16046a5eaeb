"""OpenID Connect: tokens of any issuer (Entra ID, Keycloak, Dex ...), checked with the keys that it publishes.

Sources: OpenID Connect Discovery 1.0 (section 4), OpenID Connect Core 1.0 (section 3.1.3.7), RFC 7519, and RFC 8725
(best practice: the algorithm is never taken from the token alone, issuer and audience are always checked).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from joserfc._keys import Key

#: What a key of each type may sign with. Shared secrets (``oct``, HS256) are never accepted: with them whoever can
#: check a token can make one, and a public key could be passed off as one.
_ALGORITHMS: Mapping[str, tuple[str, ...]] = {
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "EC": ("ES256", "ES384", "ES512"),
    "OKP": ("EdDSA", "Ed25519"),
}
#: Clocks may differ by this many seconds.
SKEW_SECONDS = 60
#: Seconds after which keys are read again, for how long old ones serve when that fails, and between two tries.
_FRESH_SECONDS, _STALE_SECONDS, _RETRY_SECONDS = 3600.0, 86_400.0, 10.0
_TIMEOUT_SECONDS = 5.0
_LARGEST_DOCUMENT = 1 << 20
#: Longer tokens are refused unread.
_LONGEST_TOKEN = 16_384


class TokenRefused(Exception):
    """The token proves nothing; the message says why, without any part of the token."""


class IssuerUnavailable(Exception):
    """The issuer's keys cannot be had now, so its tokens cannot be checked."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """An issuer that the service trusts to say who somebody is."""

    #: As in the tokens' ``iss``, to the letter.
    url: str
    #: One of these must be in the tokens' ``aud``.
    audiences: tuple[str, ...]
    #: Claims that may hold the name that people know, the best first.
    name_claims: tuple[str, ...] = ("preferred_username", "upn", "email", "sub")


@dataclass(frozen=True, slots=True)
class Identity:
    """What a valid token says."""

    issuer: str
    subject: str
    name: str
    display_name: str
    #: Whether it is a program's own (client credentials) rather than a person's.
    is_program: bool
    #: Unix seconds.
    expires_at: int


def looks_like_jwt(text: str) -> bool:
    """Whether a bearer token has the shape of a JSON web token."""
    return text.count(".") == 2 and text.startswith("ey")


@dataclass(slots=True)
class _Keys:
    keys: list[Key] = field(default_factory=list)
    read_at: float = float("-inf")
    tried_at: float = float("-inf")
    problem: str = ""


class Verifier:
    """Checks tokens of the issuers that were configured."""

    def __init__(
        self,
        issuers: tuple[Issuer, ...],
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issuers = {issuer.url: issuer for issuer in issuers}
        self._keys = {issuer.url: _Keys() for issuer in issuers}
        self._lock = asyncio.Lock()
        self._clock = clock
        self._monotonic = monotonic

    async def identify(self, token: str) -> Identity:
        """Who the token's bearer is. Raises TokenRefused, IssuerUnavailable."""
        header, unproven = _parts(token)
        issuer = self._issuers.get(str(unproven.get("iss")))
        if issuer is None:
            raise TokenRefused("it is of an issuer that this service does not trust")
        claims = self._verified(token, await self._candidates(issuer, header))
        self._check_claims(claims, issuer)
        return _identity(claims, issuer)

    async def _candidates(self, issuer: Issuer, header: Mapping[str, Any]) -> list[Key]:
        """The issuer's keys that may have signed it."""
        known = self._keys[issuer.url]
        found = _matching(known.keys, header)
        stale = self._monotonic() - known.read_at > _FRESH_SECONDS
        if not found or stale:
            await self._refresh(issuer, known)
            found = _matching(known.keys, header)
        if known.read_at == float("-inf") or self._monotonic() - known.read_at > _STALE_SECONDS:
            raise IssuerUnavailable(f"the keys of {issuer.url} cannot be had ({known.problem})")
        if not found:
            raise TokenRefused("it was signed with a key that its issuer does not publish, or in a way not accepted")
        return found

    async def _refresh(self, issuer: Issuer, known: _Keys) -> None:
        async with self._lock:
            if self._monotonic() - known.tried_at < _RETRY_SECONDS:
                return
            known.tried_at = self._monotonic()
            try:
                known.keys = _usable(await _published_keys(issuer.url))
                known.read_at = self._monotonic()
            except Exception as error:
                known.problem = str(error) or type(error).__name__

    def _verified(self, token: str, keys: list[Key]) -> dict[str, Any]:
        from joserfc import jwt
        from joserfc.errors import JoseError

        for key in keys:
            allowed = _ALGORITHMS[key.key_type]
            try:
                return dict(jwt.decode(token, key, algorithms=list(allowed)).claims)
            except (JoseError, ValueError, TypeError):
                continue
        raise TokenRefused("its signature is not right")

    def _check_claims(self, claims: Mapping[str, Any], issuer: Issuer) -> None:
        now = self._clock()
        if claims.get("iss") != issuer.url:
            raise TokenRefused("it is of another issuer")
        audience = claims.get("aud")
        given = [audience] if isinstance(audience, str) else audience if isinstance(audience, list) else []
        if not set(issuer.audiences) & {entry for entry in given if isinstance(entry, str)}:
            raise TokenRefused("it was made for another audience")
        expiry = _time(claims, "exp")
        if expiry is None:
            raise TokenRefused("it has no expiry")
        if expiry + SKEW_SECONDS <= now:
            raise TokenRefused("it has expired")
        for name in ("nbf", "iat"):
            moment = _time(claims, name)
            if moment is not None and moment - SKEW_SECONDS > now:
                raise TokenRefused("it is not valid yet (compare the clocks)")
        subject = claims.get("sub")
        if not isinstance(subject, str) or not 0 < len(subject) <= 255:
            raise TokenRefused("it names no subject")


def _parts(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims, not yet proven: only to choose the issuer and key by."""
    if len(token) > _LONGEST_TOKEN:
        raise TokenRefused("it is too long")
    try:
        header, claims = (
            json.loads(base64.urlsafe_b64decode(part.encode("ascii") + b"=" * (-len(part) % 4)))
            for part in token.split(".")[:2]
        )
    except (ValueError, binascii.Error, RecursionError):
        raise TokenRefused("it is not a JSON web token") from None
    if not isinstance(header, dict) or not isinstance(claims, dict):
        raise TokenRefused("it is not a JSON web token")
    return header, claims


def _matching(keys: list[Key], header: Mapping[str, Any]) -> list[Key]:
    algorithm, kid = header.get("alg"), header.get("kid")
    fitting = [key for key in keys if algorithm in _ALGORITHMS[key.key_type] and key.get("alg") in (None, algorithm)]
    return fitting if kid is None else [key for key in fitting if key.kid == kid]


def _usable(document: Mapping[str, Any]) -> list[Key]:
    """The public signing keys of a key set; what is unknown is left out (RFC 7517 section 5)."""
    from joserfc.errors import JoseError
    from joserfc.jwk import import_key

    keys: list[Key] = []
    for entry in document["keys"]:
        if not isinstance(entry, dict) or entry.get("use") == "enc" or entry.get("kty") not in _ALGORITHMS:
            continue
        try:
            keys.append(import_key(entry))
        except (JoseError, ValueError, TypeError, KeyError):
            continue
    return keys


async def _published_keys(issuer: str) -> Mapping[str, Any]:
    import httpx

    async with httpx.AsyncClient(timeout=_TIMEOUT_SECONDS, follow_redirects=False) as http:
        found = await _document(http, f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        if found.get("issuer") != issuer:
            raise ValueError(f"its configuration says that the issuer is {str(found.get('issuer'))[:200]!r}")
        address = str(found.get("jwks_uri", ""))
        if not is_trustworthy_address(address):
            raise ValueError("its jwks_uri is not https")
        return await _document(http, address)


async def _document(http: Any, url: str) -> dict[str, Any]:
    async with http.stream("GET", url, headers={"Accept": "application/json"}) as answer:
        answer.raise_for_status()
        body = bytearray()
        async for piece in answer.aiter_bytes():
            body += piece
            if len(body) > _LARGEST_DOCUMENT:
                raise ValueError(f"{url} answers with more than {_LARGEST_DOCUMENT} bytes")
    document = json.loads(bytes(body))
    if not isinstance(document, dict):
        raise ValueError(f"{url} answers with something else than an object")
    return document


def is_trustworthy_address(url: str) -> bool:
    """Whether what is read there can be believed: https, or this very machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost"))


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e12:
        raise TokenRefused(f"its {name} is not a time")
    return float(value)


def _identity(claims: Mapping[str, Any], issuer: Issuer) -> Identity:
    subject = str(claims["sub"])
    names = [str(claims[claim]) for claim in issuer.name_claims if isinstance(claims.get(claim), str) and claims[claim]]
    name = names[0] if names else subject
    display = claims.get("name")
    # Entra marks tokens of programs with idtyp; others name the client as subject.
    is_program = claims.get("idtyp") == "app" or subject in (claims.get("azp"), claims.get("client_id"))
    return Identity(
        issuer=issuer.url,
        subject=subject,
        name=name[:128],
        display_name=(display if isinstance(display, str) and display else name)[:128],
        is_program=is_program,
        expires_at=int(claims["exp"]),
    )
