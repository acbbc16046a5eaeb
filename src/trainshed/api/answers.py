"""Answers as bytes: compact JSON, and the headers that belong to a single resource (rest-contract section 1)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from email.utils import formatdate
from typing import Any

from starlette.responses import Response

from trainshed.resources.lifecycle import ProvisioningState

#: Media type of everything but files and metrics.
JSON = "application/json; charset=utf-8"

#: Seconds until a client is to ask again. The original said 15; here most things are done at once.
RETRY_AFTER = "1"
_CREATING = ProvisioningState.CREATING.value

_encoder = json.JSONEncoder(separators=(",", ":"))
#: .NET ticks (100 ns since year 1) of the Unix epoch: Azure Table's tags are made of them.
_EPOCH_TICKS = 621_355_968_000_000_000


def encode(value: Any) -> bytes:
    """Compact JSON in ASCII (other characters escaped)."""
    return _encoder.encode(value).encode("ascii")


def etag(modified_at: int) -> str:
    """``"0x8D5CBDCD4B8D591"``: the time of the last change by a user, in hexadecimal ticks."""
    return f'"0x{modified_at * 10_000 + _EPOCH_TICKS:X}"'


def answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer without entity headers: lists, actions, operations."""
    return Response(encode(value), status, headers, JSON)


def entity(value: Any, modified_at: int, ignored: Sequence[str] = ()) -> Response:
    """200 with one resource: ETag and Last-Modified follow users' changes only.

    While it is being made, with ``Retry-After``: a client whose PUT was answered so asks again until it is made, and
    after 30 seconds when nothing tells it otherwise (rest-contract section 3).
    """
    headers = {"ETag": etag(modified_at), "Last-Modified": formatdate(modified_at // 1000, usegmt=True)}
    if value.get("properties", {}).get("provisioningState") == _CREATING:
        headers["Retry-After"] = RETRY_AFTER
    return Response(encode(value), 200, headers | warning(ignored), JSON)


def warning(ignored: Sequence[str]) -> dict[str, str]:
    """The header that names members which 2018-05-01 does not know and that were ignored; empty when there are none."""
    if not ignored:
        return {}
    shown = ", ".join(ignored[:20]) + (f" and {len(ignored) - 20} more" if len(ignored) > 20 else "")
    plain = "".join(char if " " <= char <= "~" and char not in '"\\' else "?" for char in shown)[:1000]
    return {"Warning": f'299 - "Members that api-version 2018-05-01 does not know were ignored: {plain}"'}
