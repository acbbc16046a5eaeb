"""Sending a request with retries, reading errors, following pages: the part of HTTP that every operation shares.

Every call of the contract is idempotent, POST terminate and POST list included (rest-contract section 4), so each may
be repeated after a lost connection, 408, 429 and 5xx except 501, 505 and 507; with growing pauses, and a bound.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from trainshed.client.effects import Call, Emit, Open, Relocate, Reply, Request, Sleep, Steps, Stream, TransportFailure
from trainshed.client.errors import ServiceError, ServiceUnreachableError, error_from_reply

API_VERSION = "2026-11-01"
ORIGINAL_API_VERSION = "2018-05-01"

Query: TypeAlias = Mapping[str, str | int | None]

#: Pauses in seconds before the second, third ... attempt; a fifth of each is random.
PAUSES = (0.1, 0.3, 0.8, 1.6, 3.2)
#: Longest pause that a Retry-After header can ask for here, in seconds.
LONGEST_PAUSE = 30.0


def request(
    method: str,
    path: str,
    *,
    query: Query | None = None,
    body: Any = None,
    version: str = API_VERSION,
) -> Request:
    """A request of the API: the version is added, query members that are None are left out, the body becomes JSON."""
    members = {"api-version": version}
    members.update({name: str(value) for name, value in (query or {}).items() if value is not None})
    if body is None:
        return Request(method, path, members)
    content = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
    return Request(method, path, members, body=content, headers={"Content-Type": "application/json; charset=utf-8"})


def send(asked: Request) -> Steps[Reply]:
    """The answer to a request, if it is 2xx. Raises ServiceError for others, ServiceUnreachableError after retries."""
    for pause in (*PAUSES, None):
        try:
            reply: Reply = yield Call(asked)
        except TransportFailure as failure:
            yield from _pause_or_give_up(asked, failure, pause)
            continue
        if reply.status < 400:
            return reply
        if pause is None or not may_be_repeated(reply.status):
            raise error_from_reply(reply.status, reply.body)
        yield Sleep(retry_after(reply.headers, _jittered(pause)))
    raise AssertionError("the last round returns or raises")


def open_stream(asked: Request) -> Steps[Stream]:
    """Open an answer for reading. An answer of 400 or more comes back as it is: what it means, the caller knows."""
    for pause in (*PAUSES, None):
        try:
            stream: Stream = yield Open(asked)
        except TransportFailure as failure:
            yield from _pause_or_give_up(asked, failure, pause)
            continue
        if pause is None or not may_be_repeated(stream.status):
            return stream
        yield Sleep(retry_after(stream.headers, _jittered(pause)))
    raise AssertionError("the last round returns or raises")


def pages(first: Request, make: Callable[[Any], Any]) -> Steps[None]:
    """Emit ``make`` of each entry of ``value``, following ``nextLink`` with the same verb (rest-contract section 1)."""
    asked = first
    while True:
        reply = yield from send(asked)
        answer = reply.json()
        for entry in answer.get("value") or ():
            yield Emit(make(entry))
        link = answer.get("nextLink")
        if not link:
            return
        asked = Request(first.method, str(link))


def exists(asked: Request) -> Steps[bool]:
    """Whether a GET finds its resource."""
    try:
        yield from send(asked)
    except ServiceError as error:
        if error.status == 404:
            return False
        raise
    return True


def may_be_repeated(status: int) -> bool:
    """Whether asking again may help."""
    return status in (408, 429) or (status >= 500 and status not in (501, 505, 507))


def retry_after(headers: Mapping[str, str], otherwise: float) -> float:
    """Seconds that the service asks the client to wait, within bounds; ``otherwise`` when it asks for none."""
    try:
        return min(max(float(headers["retry-after"]), 0.0), LONGEST_PAUSE)
    except (KeyError, ValueError):
        return otherwise


def _pause_or_give_up(asked: Request, failure: TransportFailure, pause: float | None) -> Steps[None]:
    if pause is None:
        raise ServiceUnreachableError(f"{asked.method} {asked.path} was not answered: {failure}") from failure
    yield Sleep(_jittered(pause))
    yield Relocate()


def _jittered(pause: float) -> float:
    return pause * random.uniform(0.8, 1.2)
