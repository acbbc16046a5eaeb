"""Which OpenID issuers the service trusts: ``oidc.json`` in its home, and one more from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trainshed.identity.oidc import Issuer, is_trustworthy_address

FILE = "oidc.json"
_EXAMPLE = '[{"issuer": "https://login.example.com/realms/lab", "audience": "trainshed"}]'


class InvalidIssuers(Exception):
    """The configuration of issuers cannot be used: the message names the place, what is wrong and an example."""


def load(home: Path) -> tuple[Issuer, ...]:
    """The issuers of ``{home}/oidc.json``; none without the file. Raises InvalidIssuers."""
    path = home / FILE
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidIssuers(f"{path} cannot be read: {error}") from None
    try:
        entries = json.loads(text)
    except ValueError as error:
        raise InvalidIssuers(f"{path} is not JSON ({error}). Expected for example: {_EXAMPLE}") from None
    if not isinstance(entries, list):
        raise InvalidIssuers(f"{path} holds no list. Expected for example: {_EXAMPLE}")
    issuers = tuple(_issuer(entry, f"{path}, entry {number}") for number, entry in enumerate(entries, 1))
    if len({issuer.url for issuer in issuers}) < len(issuers):
        raise InvalidIssuers(f"{path} names an issuer twice; give it all its audiences in one entry")
    return issuers


def issuer_of(url: str, audiences: list[str]) -> Issuer:
    """An issuer from the command line. Raises InvalidIssuers."""
    return _issuer({"issuer": url, "audience": audiences}, "--oidc-issuer")


def _issuer(entry: Any, place: str) -> Issuer:
    known = {"issuer", "audience", "nameClaims"}
    if not isinstance(entry, dict) or set(entry) - known:
        raise InvalidIssuers(f"{place} must be an object with {', '.join(sorted(known))}. For example: {_EXAMPLE}")
    url, audience, names = entry.get("issuer"), entry.get("audience"), entry.get("nameClaims")
    if not isinstance(url, str) or not is_trustworthy_address(url):
        raise InvalidIssuers(f"{place}: issuer must be an https URL, as in the tokens' iss (http only on this machine)")
    audiences = _texts([audience] if isinstance(audience, str) else audience)
    if not audiences:
        raise InvalidIssuers(f"{place}: audience must be one or several texts: what the tokens' aud holds")
    if names is None:
        return Issuer(url, audiences)
    claims = _texts(names)
    if not claims:
        raise InvalidIssuers(f"{place}: nameClaims must be a list of claims' names, the best first")
    return Issuer(url, audiences, claims)


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, list) and value and all(isinstance(entry, str) and entry for entry in value):
        return tuple(value)
    return ()
