"""Lists in pages: ``maxresults`` and a ``nextLink`` that is followed as it is, with the same verb (rest-contract 1)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from starlette.responses import Response

from trainshed.api.answers import encode
from trainshed.api.call import Call
from trainshed.api.errors import ApiError, invalid_value

LARGEST_PAGE = 1000
_TOKEN = "$skiptoken"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PageRequest:
    """How many entries are wanted, and after which one (None from the start)."""

    limit: int
    after: str | None

    @property
    def one_more(self) -> int:
        """What to ask the store for: the entry beyond the page tells whether there is another."""
        return self.limit + 1

    def after_number(self) -> int:
        """The last entry's number, for lists in order of numbers; 0 from the start."""
        if self.after is None:
            return 0
        if not (self.after.isdigit() and self.after.isascii() and len(self.after) < 19):
            raise _bad_token()
        return int(self.after)


def page_request(call: Call) -> PageRequest:
    """Read ``maxresults`` (1 to 1000, default 1000) and the place from the query. Raises ApiError 400."""
    limit = whole_number(call, "maxresults", LARGEST_PAGE, 1, LARGEST_PAGE)
    token = call.query.get(_TOKEN)
    if token is None:
        return PageRequest(limit, None)
    try:
        return PageRequest(limit, base64.urlsafe_b64decode(token.encode("ascii") + b"==").decode("utf-8"))
    except (binascii.Error, ValueError):
        raise _bad_token() from None


def whole_number(call: Call, name: str, default: int, least: int, most: int) -> int:
    """An integer in the query. Raises ApiError 400 naming its bounds."""
    given = call.query.get(name)
    if given is None or given == "":
        return default
    if given.isascii() and given.isdigit() and len(given) < 19 and least <= int(given) <= most:
        return int(given)
    raise invalid_value(
        name, f"The value '{given[:50]}' of the query parameter {name} is not allowed. Give {least} to {most}."
    )


def page(
    call: Call, asked: PageRequest, rows: Sequence[T], view: Callable[[T], Any], place: Callable[[T], Any]
) -> bytes:
    """The list's JSON from up to ``one_more`` rows. ``place`` of the last row is where the next page begins."""
    shown = rows[: asked.limit]
    body: dict[str, Any] = {"value": [view(row) for row in shown]}
    if len(rows) > asked.limit:
        body["nextLink"] = _next_link(call, asked, str(place(shown[-1])))
    return encode(body)


def continued(listing: Callable[[Call], Awaitable[Response]]) -> Callable[[Call], Awaitable[Response]]:
    """A handler of GET for a list that POST begins.

    The contract follows a ``nextLink`` with the verb of the first call, and azure-mgmt-batchai 2.0.0 does; 7.0.0
    follows every one with GET. A list is still begun with POST only.
    """

    async def follow(call: Call) -> Response:
        """GET: a further page of a list that POST began, by the nextLink that it gave."""
        if _TOKEN not in call.query:
            raise ApiError(
                405,
                "MethodNotAllowed",
                f"GET is not possible at {call.path}, except with the nextLink of an earlier page. Send POST.",
                headers={"Allow": "POST"},
            )
        return await listing(call)

    return follow


def _next_link(call: Call, asked: PageRequest, place: str) -> str:
    token = base64.urlsafe_b64encode(place.encode("utf-8")).rstrip(b"=").decode()
    kept = {name: value for name, value in call.query.items() if name not in (_TOKEN, "maxresults")}
    query = urlencode({**kept, "maxresults": str(asked.limit), _TOKEN: token})
    return f"{call.base_url}{quote(call.path)}?{query}"


def _bad_token() -> Exception:
    return invalid_value(_TOKEN, f"The {_TOKEN} is not one that this service gave. Start again from the first page.")
