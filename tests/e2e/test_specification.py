"""The specification and noise over HTTP, against ``trainshed serve`` (a smaller part of tests/specification)."""

from __future__ import annotations

import random
from urllib.parse import urlsplit

import pytest
from schemathesis import GenerationMode

from tests.specification import amendments, rules
from tests.specification.cases import make_all
from tests.specification.noise import Noise
from tests.specification.operations import Judge, read_operations
from tests.specification.walk import Walk
from tests.specification.wire import Answer, Request, over_socket
from tests.support.live_service import LiveService

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

PLAIN = {GenerationMode.POSITIVE: 4, GenerationMode.NEGATIVE: 2}
WITH_BODY = {GenerationMode.POSITIVE: 10, GenerationMode.NEGATIVE: 5}
NOISE = 300
#: What the server itself says to what is no HTTP; it never reaches the application.
NOT_HTTP = b"Invalid HTTP request received."


class LiveSite:
    """A running service. Its clusters get no nodes here: made-up commands are not to be run."""

    def __init__(self, service: LiveService) -> None:
        told = service.told()
        self.token = told["token"]
        url = urlsplit(told["url"])
        self.exchange = over_socket(url.hostname or "", url.port or 0)

    def authorization(self) -> tuple[bytes, bytes]:
        return b"Authorization", f"Bearer {self.token}".encode()

    def send(self, request: Request) -> Answer:
        return self.exchange(request)

    def end_some(self, dice: random.Random) -> None:
        """Nothing runs."""

    def settle(self) -> None:
        """The service does what it does in its own time."""


@amendments.needs_specification
def test_every_operation(service: LiveService) -> None:
    document, answers = amendments.for_requests(), Judge(amendments.for_answers())
    operations = read_operations(answers.document)
    walk = Walk(LiveSite(service), operations, answers, Judge(amendments.letter()), seed=11, most_nodes=0)
    walk.play(make_all(document, PLAIN, WITH_BODY, seed=11), rounds=2)
    assert {operation for operation, _ in walk.seen} == set(operations)
    assert walk.played >= 200


def test_noise(service: LiveService) -> None:
    site = LiveSite(service)
    noise = Noise(99, site.token)
    for number in range(NOISE):
        request = noise.request()
        if request.method == "CONNECT":
            continue
        try:
            answer = site.send(request)
            assert answer.status < 500
            if answer.body == NOT_HTTP:
                continue
            rules.check_headers(request, answer)
            if answer.status >= 400:
                rules.check_error(request, answer)
        except Exception as error:
            raise AssertionError(f"request {number}: {error!r}\n{request}") from error
    assert site.send(Request("GET", b"/readyz")).status == 200
