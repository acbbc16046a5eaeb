"""Signed links."""

from __future__ import annotations

from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainshed.identity import LinkRefused, LinkSigner, Vault

EXPIRY = 1_528_319_162_999
SIGNER = LinkSigner(lambda: bytes(32))


def signed(path: str) -> dict[str, str]:
    return dict(parse_qsl(SIGNER.query(path, EXPIRY)))


@given(st.text(max_size=40))
def test_a_signed_path_is_good_until_it_expires(path: str) -> None:
    query = signed(path)
    SIGNER.check(path, query, EXPIRY - 1000)
    with pytest.raises(LinkRefused, match="expired at 2018-06-06T21:06:02Z"):
        SIGNER.check(path, query, EXPIRY)


@given(st.text(max_size=20), st.text(max_size=20))
def test_another_path_is_refused(path: str, other: str) -> None:
    if path != other:
        with pytest.raises(LinkRefused, match="signature"):
            SIGNER.check(other, signed(path), 0)


@pytest.mark.parametrize(
    "change",
    [{"se": "2030-01-01T00:00:00Z"}, {"sp": "rw"}, {"sig": ""}, {"sig": "größe"}, {"sig": "\udcff"}, {"se": ""}],
)
def test_any_change_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(LinkRefused):
        SIGNER.check("/files/x", signed("/files/x") | change, 0)


def test_no_query_is_refused() -> None:
    with pytest.raises(LinkRefused):
        SIGNER.check("/files/x", {}, 0)


def test_names_that_are_no_utf8_can_be_signed() -> None:
    SIGNER.check("/files/\udcff", signed("/files/\udcff"), 0)


def test_links_stay_good_over_restarts_and_for_one_home_only() -> None:
    query = dict(parse_qsl(LinkSigner.from_vault(Vault(bytes(32))).query("/f", EXPIRY)))
    LinkSigner.from_vault(Vault(bytes(32))).check("/f", query, 0)
    with pytest.raises(LinkRefused):
        LinkSigner.from_vault(Vault(b"1" * 32)).check("/f", query, 0)
