"""Long-running operations: following the 202 answer to its end (rest-contract section 3)."""

from __future__ import annotations

from trainshed.client.effects import Reply, Request, Sleep, Steps
from trainshed.client.errors import NotFoundError, operation_error
from trainshed.client.transport import retry_after, send

#: Pauses in seconds between the first polls; a local operation is mostly done at once. Then Retry-After holds.
_FIRST_PAUSES = (0.02, 0.05, 0.1, 0.2, 0.4)


def finish(reply: Reply, *, wait: bool = True) -> Steps[None]:
    """Wait for the operation that ``reply`` started, if it started one. Raises OperationFailedError."""
    if reply.status != 202 or not wait:
        return
    # The two names are crossed in the contract: both lead to the operation's status.
    link = reply.headers.get("azure-asyncoperation") or reply.headers.get("location")
    if not link:
        return
    pauses = iter(_FIRST_PAUSES)
    while True:
        answer = yield from send(Request("GET", link))
        outcome = answer.json()
        status = str(outcome.get("status", "")).lower()
        if status == "succeeded":
            return
        if status in ("failed", "canceled"):
            raise operation_error(outcome)
        pause = next(pauses, None)
        yield Sleep(retry_after(answer.headers, 1.0) if pause is None else pause)


def change(asked: Request, *, wait: bool) -> Steps[bool]:
    """Send a DELETE or an action and wait for its end. False when there was nothing to do (204)."""
    reply = yield from send(asked)
    yield from finish(reply, wait=wait)
    return reply.status != 204


def create(asked: Request, *, wait: bool) -> Steps[Reply]:
    """Send a PUT, wait for its end, and return the resource as it is then."""
    reply = yield from send(asked)
    if reply.status == 200 and reply.body:
        return reply
    yield from finish(reply, wait=wait)
    return (yield from _get(asked))


def _get(asked: Request) -> Steps[Reply]:
    get = Request("GET", asked.path, asked.query)
    try:
        return (yield from send(get))
    except NotFoundError:
        # Accepted, but not to be read before the operation ends.
        yield Sleep(0.2)
        return (yield from send(get))
