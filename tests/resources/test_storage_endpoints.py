"""The administrator's file of storage endpoints."""

from __future__ import annotations

import pytest

from trainshed.resources.storage_endpoints import InvalidEndpoints, StorageEndpoints, read_endpoints


def test_what_the_file_says() -> None:
    endpoints = read_endpoints(
        '{"Mine": {"file": "127.0.0.1:15445", "blob": "http://127.0.0.1:10000/mine"}, "*": {"suffix": "core.example"}}'
    )
    assert endpoints.file("mine") == "127.0.0.1:15445"
    assert endpoints.blob("MINE") == "http://127.0.0.1:10000/mine"
    assert endpoints.file("other") == ""
    assert endpoints.blob("other") == "https://other.blob.core.example"
    assert StorageEndpoints().blob("other") == ""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "no JSON"),
        ("[]", "object of accounts"),
        ('{"a": 1}', "'a'"),
        ('{"a": {"file": 1}}', "'a'"),
        ('{"a": {"table": "x"}}', "'table'"),
        ('{"*": {"blob": "http://x"}}', "suffix"),
        ('{"a": {"file": "http://x"}}', "HOST:PORT"),
        ('{"a": {"blob": "x:1"}}', "http"),
    ],
)
def test_what_is_wrong_is_said(text: str, told: str) -> None:
    with pytest.raises(InvalidEndpoints, match=told):
        read_endpoints(text)
