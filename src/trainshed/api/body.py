"""Reading request bodies: JSON of at most 4 MiB."""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import ClientDisconnect, Request

from trainshed.api.errors import ApiError
from trainshed.resources.errors import INVALID_REQUEST_CONTENT

#: Largest JSON body in bytes.
LIMIT = 4 << 20


async def read_body(request: Request, limit: int = LIMIT) -> bytes:
    """The body. Raises ApiError 413 when it is larger than ``limit`` bytes (without reading all of it)."""
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit:
        raise _too_large(limit)
    body = bytearray()
    try:
        async for piece in request.stream():
            body += piece
            if len(body) > limit:
                raise _too_large(limit)
    except ClientDisconnect:
        raise ApiError(400, INVALID_REQUEST_CONTENT, "The connection was closed before the body was sent.") from None
    if body:
        _check_media_type(request)
    return bytes(body)


def parse_object(body: bytes, what: str) -> dict[str, Any]:
    """A JSON object, for bodies that no resource model describes. Raises ApiError 400."""
    try:
        value = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ApiError(400, INVALID_REQUEST_CONTENT, f"The body is not JSON ({error}). Expected {what}.") from None
    if not isinstance(value, dict):
        raise ApiError(400, INVALID_REQUEST_CONTENT, f"The body is JSON, but not an object. Expected {what}.")
    return value


def _too_large(limit: int) -> ApiError:
    return ApiError(
        413,
        "RequestEntityTooLarge",
        f"The body is larger than the limit of {limit:,} bytes ({limit >> 20} MiB). Send less; "
        "data belongs on a volume, code into an uploaded snapshot.",
        # What was not read cannot be told from the next request.
        headers={"Connection": "close"},
    )


def _check_media_type(request: Request) -> None:
    given = request.headers.get("content-type")
    if not given:
        return
    media_type, *parameters = (part.strip().lower() for part in given.split(";"))
    json_type = media_type in ("application/json", "text/json") or (
        media_type.startswith("application/") and media_type.endswith("+json")
    )
    charset = next((part[8:].strip("\"'") for part in parameters if part.startswith("charset=")), "utf-8")
    if not json_type or charset not in ("utf-8", "utf8", "us-ascii"):
        raise ApiError(
            415,
            "UnsupportedMediaType",
            f"The Content-Type '{given[:100]}' is not supported. Send 'application/json; charset=utf-8'.",
            target="Content-Type",
        )
