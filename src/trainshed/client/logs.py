"""Following a log: one long answer, taken up again at the byte where it broke."""

from __future__ import annotations

from dataclasses import replace
from time import monotonic
from urllib.parse import quote

from trainshed.client.effects import (
    Call,
    Close,
    Emit,
    Open,
    Read,
    Relocate,
    Reply,
    Sleep,
    Steps,
    Stream,
    TransportFailure,
)
from trainshed.client.errors import ServiceUnreachableError, error_from_reply
from trainshed.client.transport import Query, may_be_repeated, request, retry_after
from trainshed.resources.lifecycle import JOB

#: How long, in seconds, a follower stays with a service that does not answer (time for it to be restarted).
PATIENCE = 120.0
#: A follower of a silent job hears nothing for as long as the job is silent.
_LONGEST_SILENCE = 24 * 3600.0
_PAUSES = (0.1, 0.2, 0.5, 1.0)


def stream(job_path: str, file: str, *, offset: int, follow: bool) -> Steps[None]:
    """Emit the bytes of a job's log from ``offset`` on."""
    path = f"{job_path}/logs/{quote(file, safe='')}"
    at, failures, last_word = offset, 0, monotonic()
    while True:
        query: Query = {"offset": at, "follow": "true" if follow else "false"}
        asked = replace(request("GET", path, query=query), timeout=_LONGEST_SILENCE)
        try:
            answer: Stream = yield Open(asked)
            if answer.status == 416:
                return
            if answer.status >= 400:
                body = yield from _whole(answer)
                if follow and answer.status == 404 and not (yield from _has_ended(job_path)):
                    # A service that is being stopped no longer waits for a file that is still to come.
                    yield Sleep(0.5)
                    yield Relocate()
                    continue
                if not may_be_repeated(answer.status) or monotonic() - last_word > PATIENCE:
                    raise error_from_reply(answer.status, body)
                yield Sleep(retry_after(answer.headers, 0.5))
                continue
            began = at
            while piece := (yield Read(answer)):
                at += len(piece)
                failures, last_word = 0, monotonic()
                yield Emit(piece)
            yield Close(answer)
            # A service that is stopped in an orderly way ends the answer as if it were whole; asking once more tells.
            if not follow or at == began:
                return
        except TransportFailure as failure:
            if failures == 0:
                last_word = monotonic()
            if monotonic() - last_word > PATIENCE:
                raise ServiceUnreachableError(f"the log broke off at byte {at}: {failure}") from failure
            yield Sleep(_PAUSES[min(failures, len(_PAUSES) - 1)])
            failures += 1
            yield Relocate()


def _whole(answer: Stream) -> Steps[bytes]:
    body = bytearray()
    while piece := (yield Read(answer)):
        body += piece
    yield Close(answer)
    return bytes(body)


def _has_ended(job_path: str) -> Steps[bool]:
    """Whether nothing will be written any more: the job has ended, or is gone."""
    reply: Reply = yield Call(request("GET", job_path))
    if reply.status == 404:
        return True
    return reply.status < 400 and reply.json()["properties"].get("executionState") in JOB.final
