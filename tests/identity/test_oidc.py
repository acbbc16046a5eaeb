"""OpenID Connect against an issuer on loopback: good tokens, and every kind of bad one."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey

from tests.support.issuer import AUDIENCE, LoopbackIssuer, other_keys
from trainshed.identity import oidc_settings
from trainshed.identity.oidc import Identity, Issuer, IssuerUnavailable, TokenRefused, Verifier
from trainshed.identity.oidc_settings import InvalidIssuers

pytestmark = pytest.mark.slow

NOW = 1_800_000_000.0


class Times:
    """The wall clock and the monotonic one, moved by tests."""

    def __init__(self) -> None:
        self.wall = NOW
        self.steady = 100.0


@pytest.fixture
def issuer() -> Iterator[LoopbackIssuer]:
    with LoopbackIssuer() as made:
        yield made


@pytest.fixture
def times() -> Times:
    return Times()


@pytest.fixture
def identify(issuer: LoopbackIssuer, times: Times) -> Callable[[str], Identity]:
    verifier = Verifier((Issuer(issuer.url, (AUDIENCE, "other")),), lambda: times.wall, lambda: times.steady)

    def run(token: str) -> Identity:
        return asyncio.run(_identified(verifier, token))

    return run


async def _identified(verifier: Verifier, token: str) -> Identity:
    return await verifier.identify(token)


Identify = Callable[[str], Identity]


def test_a_good_token_says_who_it_is(issuer: LoopbackIssuer, identify: Identify) -> None:
    found = identify(issuer.token(NOW))
    assert found == Identity(issuer.url, "subject-1", "ann@example.org", "Ann", False, int(NOW) + 3600)


def test_keys_of_all_usual_types_and_audience_lists_are_accepted(issuer: LoopbackIssuer, identify: Identify) -> None:
    issuer.keys += other_keys()
    for key in issuer.keys:
        assert identify(issuer.token(NOW, key, aud=["somebody-else", "other"])).subject == "subject-1"


@pytest.mark.parametrize(
    ("claims", "name", "is_program"),
    [
        ({"preferred_username": None, "upn": "ann@corp"}, "ann@corp", False),
        ({"preferred_username": None, "email": "ann@mail"}, "ann@mail", False),
        ({"preferred_username": None}, "subject-1", False),
        ({"preferred_username": 7}, "subject-1", False),
        ({"idtyp": "app"}, "ann@example.org", True),
        ({"azp": "subject-1"}, "ann@example.org", True),
    ],
)
def test_names_and_programs(
    issuer: LoopbackIssuer, identify: Identify, claims: dict[str, Any], name: str, is_program: bool
) -> None:
    found = identify(issuer.token(NOW, **claims))
    assert (found.name, found.is_program) == (name, is_program)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"exp": NOW - 61}, "expired"),
        ({"exp": None}, "expiry"),
        ({"exp": "tomorrow"}, "time"),
        ({"exp": True}, "time"),
        ({"nbf": NOW + 120}, "not valid yet"),
        ({"iat": NOW + 120}, "not valid yet"),
        ({"aud": "somebody-else"}, "audience"),
        ({"aud": ["a", "b"]}, "audience"),
        ({"aud": []}, "audience"),
        ({"aud": None}, "audience"),
        ({"aud": {"trainshed": 1}}, "audience"),
        ({"iss": "https://evil.example"}, "issuer"),
        ({"iss": None}, "issuer"),
        ({"iss": ["x"]}, "issuer"),
        ({"sub": None}, "subject"),
        ({"sub": ""}, "subject"),
        ({"sub": 5}, "subject"),
    ],
)
def test_claims_that_are_not_right_are_refused(
    issuer: LoopbackIssuer, identify: Identify, changed: dict[str, Any], why: str
) -> None:
    with pytest.raises(TokenRefused, match=why):
        identify(issuer.token(NOW, **changed))


def test_clocks_may_differ_a_little(issuer: LoopbackIssuer, identify: Identify) -> None:
    assert identify(issuer.token(NOW, exp=NOW - 59, nbf=NOW + 59, iat=NOW + 59))


def _segment(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def test_a_tampered_token_is_refused(issuer: LoopbackIssuer, identify: Identify) -> None:
    header, _, signature = issuer.token(NOW).split(".")
    forged = f"{header}.{_segment(issuer.claims(NOW, sub='somebody-else'))}.{signature}"
    with pytest.raises(TokenRefused, match="signature"):
        identify(forged)
    with pytest.raises(TokenRefused):
        identify(f"{header}.{issuer.token(NOW).split('.')[1]}.{'A' * len(signature)}")


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", "", None, 5])
def test_an_unsigned_token_is_refused(issuer: LoopbackIssuer, identify: Identify, algorithm: Any) -> None:
    for signature in ("", "AAAA"):
        with pytest.raises(TokenRefused):
            identify(f"{_segment({'alg': algorithm, 'kid': 'rsa-1'})}.{_segment(issuer.claims(NOW))}.{signature}")


def test_a_public_key_is_no_shared_secret(issuer: LoopbackIssuer, identify: Identify) -> None:
    """Key confusion: the token is signed by HMAC with the published key's text, in every form of it."""
    public = issuer.keys[0]
    forms = [public.as_pem(private=False), public.as_der(private=False), json.dumps(public.as_dict()).encode()]
    for secret in forms:
        for kid in ("rsa-1", None):
            head = {"alg": "HS256", "typ": "JWT"} | ({"kid": kid} if kid else {})
            text = f"{_segment(head)}.{_segment(issuer.claims(NOW))}"
            mac = base64.urlsafe_b64encode(hmac.digest(secret, text.encode(), hashlib.sha256)).rstrip(b"=").decode()
            with pytest.raises(TokenRefused):
                identify(f"{text}.{mac}")


def test_a_published_shared_secret_is_not_used(issuer: LoopbackIssuer, identify: Identify) -> None:
    secret = OctKey.generate_key(256, {"kid": "oct-1"})
    issuer.keys.append(secret)
    issuer.keys[-1] = _Published(secret)
    text = jwt.encode({"alg": "HS256", "kid": "oct-1"}, issuer.claims(NOW), secret)
    with pytest.raises(TokenRefused):
        identify(text if isinstance(text, str) else text.decode())


class _Published:
    """A key whose secret is published, as no issuer should."""

    def __init__(self, key: OctKey) -> None:
        self._key = key

    def as_dict(self, private: bool) -> dict[str, Any]:
        return dict(self._key.as_dict(private=True))


def test_a_key_in_the_header_is_not_believed(issuer: LoopbackIssuer, identify: Identify) -> None:
    own = RSAKey.generate_key(2048, {"kid": "rsa-1"})
    for header in ({"jwk": own.as_dict(private=False)}, {"jku": f"{issuer.url}/certs"}, {"kid": "x"}, {"kid": None}):
        with pytest.raises(TokenRefused):
            identify(issuer.token(NOW, own, header))


def test_critical_extensions_that_nobody_knows_are_refused(issuer: LoopbackIssuer, identify: Identify) -> None:
    key = issuer.keys[0]
    head = {"alg": "RS256", "kid": key.kid, "crit": ["x-must"], "x-must": True}
    text = f"{_segment(head)}.{_segment(issuer.claims(NOW))}"
    signature = key.raw_value.sign(text.encode(), *_pkcs1())
    with pytest.raises(TokenRefused):
        identify(f"{text}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}")


def _pkcs1() -> tuple[Any, Any]:
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA256

    return PKCS1v15(), SHA256()


@pytest.mark.parametrize("text", ["a.b.c", "ey.ey.ey", "..", f"{_segment([])}.{_segment({})}.x", "é.é.é", "ey" * 9000])
def test_what_is_no_token_is_refused(identify: Identify, text: str) -> None:
    with pytest.raises(TokenRefused):
        identify(text)


def test_a_new_key_is_found_but_the_issuer_is_not_asked_all_the_time(
    issuer: LoopbackIssuer, identify: Identify, times: Times
) -> None:
    identify(issuer.token(NOW))
    reads = issuer.reads
    issuer.keys.insert(0, RSAKey.generate_key(2048, {"kid": "rsa-2"}))
    with pytest.raises(TokenRefused):
        identify(issuer.token(NOW))
    assert issuer.reads == reads
    times.steady += 11
    assert identify(issuer.token(NOW)).subject == "subject-1"
    assert issuer.reads == reads + 2


def test_a_withdrawn_key_ends_with_the_next_reading(issuer: LoopbackIssuer, identify: Identify, times: Times) -> None:
    old = issuer.keys[0]
    identify(issuer.token(NOW))
    issuer.keys = [RSAKey.generate_key(2048, {"kid": "rsa-2"})]
    times.steady += 3601
    with pytest.raises(TokenRefused):
        identify(issuer.token(NOW, old))


def test_known_keys_serve_for_a_day_when_the_issuer_is_down(
    issuer: LoopbackIssuer, identify: Identify, times: Times
) -> None:
    identify(issuer.token(NOW))
    issuer.down = True
    times.steady += 3700
    assert identify(issuer.token(NOW))
    times.steady += 86_400
    with pytest.raises(IssuerUnavailable):
        identify(issuer.token(NOW))


@pytest.mark.parametrize(
    "discovery",
    [{"issuer": "https://evil.example"}, {"jwks_uri": "http://example.com/certs"}, {"jwks_uri": "file:///etc/passwd"},
     {"jwks_uri": 5}],
)  # fmt: skip
def test_a_configuration_that_cannot_be_trusted_gives_no_keys(
    issuer: LoopbackIssuer, identify: Identify, discovery: dict[str, Any]
) -> None:
    issuer.discovery = discovery
    with pytest.raises(IssuerUnavailable):
        identify(issuer.token(NOW))


def test_issuers_are_read_from_the_home(tmp_path: Path) -> None:
    assert oidc_settings.load(tmp_path) == ()
    entries = [
        {"issuer": "https://login.example/v2.0", "audience": "a"},
        {"issuer": "http://127.0.0.1:1/x", "audience": ["b", "c"], "nameClaims": ["email"]},
    ]
    (tmp_path / "oidc.json").write_text(json.dumps(entries))
    first, second = oidc_settings.load(tmp_path)
    assert first == Issuer("https://login.example/v2.0", ("a",))
    assert second == Issuer("http://127.0.0.1:1/x", ("b", "c"), ("email",))


@pytest.mark.parametrize(
    "text",
    ["{", "{}", "[5]", '[{"issuer": "https://x"}]', '[{"issuer": "http://x.example", "audience": "a"}]',
     '[{"issuer": "https://x", "audience": ""}]', '[{"issuer": "https://x", "audience": "a", "clientSecret": "s"}]',
     '[{"issuer": "https://x", "audience": "a"}, {"issuer": "https://x", "audience": "b"}]',
     '[{"issuer": "https://x", "audience": "a", "nameClaims": []}]'],
)  # fmt: skip
def test_a_wrong_configuration_is_told_with_an_example(tmp_path: Path, text: str) -> None:
    (tmp_path / "oidc.json").write_text(text)
    with pytest.raises(InvalidIssuers, match=r"oidc\.json"):
        oidc_settings.load(tmp_path)
