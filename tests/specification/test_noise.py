"""1,500 requests that nobody should send: never a 5xx, never silence, and what is refused changes nothing."""

from __future__ import annotations

import sqlite3
from collections import Counter

import pytest
from structlog.testing import capture_logs

from tests.api.service import CLUSTER, EXPERIMENT, OLD, PROVIDER, WS, Service, cluster_body, job_body
from tests.specification import rules
from tests.specification.noise import BODIES, Noise, bent_everywhere, written
from tests.specification.wire import Request, in_process

pytestmark = pytest.mark.slow

SEEDS, REQUESTS = range(3), 500


@pytest.mark.parametrize("seed", SEEDS)
def test_noise(shed: Service, seed: int) -> None:
    shed.make_job()
    shed.make_job("k")
    (shed.stdouterr(shed.make_job("l")) / "stdout.txt").write_bytes(b"text")
    noise, statuses = Noise(seed, shed.tokens.admin), Counter[int]()
    before = shed.dump()
    with capture_logs() as logs:
        for number in range(REQUESTS):
            request = noise.request()
            shed.clock.now += 1000
            try:
                answer = shed.run(in_process(shed.app, request))
                after = shed.dump()
                statuses[answer.status] += 1
                assert answer.status < 500
                rules.check_headers(request, answer)
                if answer.status >= 400:
                    rules.check_error(request, answer)
                    assert after == before, "a refused request changed something"
                elif answer.headers.get("content-type", "").startswith("application/json") and request.method != "HEAD":
                    answer.json()
            except Exception as error:
                raise AssertionError(f"request {number} of seed {seed}: {error!r}\n{request}\n{logs}") from error
            before = after
    print(f"seed {seed}: {dict(sorted(statuses.items()))}")
    assert {200, 202, 204, 400, 401, 404, 405} <= set(statuses), "the noise does not reach everywhere"
    with sqlite3.connect(shed.database) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []
    _still_works(shed)


@pytest.mark.parametrize(
    ("method", "place", "schema"),
    [
        ("PUT", f"{EXPERIMENT}/jobs/n%d", "JobCreate"),
        ("PUT", f"{WS}/clusters/n%d", "ClusterCreate"),
        ("PATCH", CLUSTER, "ClusterUpdate"),
        ("PUT", f"{WS}/fileServers/n%d", "FileServerCreate"),
        ("PUT", f"{PROVIDER}/workspaces/n%d", "WorkspaceCreate"),
        ("PATCH", WS, "WorkspaceUpdate"),
    ],
)
def test_odd_values_everywhere(shed: Service, method: str, place: str, schema: str) -> None:
    headers = ((b"Authorization", b"Bearer " + shed.tokens.admin.encode()), (b"Content-Type", b"application/json"))
    for number, body in enumerate(bent_everywhere(BODIES[schema])):
        path = place % number if "%d" in place else place
        request = Request(method, f"{path}?api-version={OLD}".encode(), headers, written(body))
        answer = shed.run(in_process(shed.app, request))
        assert answer.status in (200, 202, 400, 409), f"{answer}\n{request}"
        rules.check_headers(request, answer)
        if answer.status >= 400:
            rules.check_error(request, answer)
        else:
            shown = shed.send("GET", path)
            assert shown.status_code == 200, shown.text


def _still_works(shed: Service) -> None:
    # In a group of its own: the noise may have deleted the other.
    workspace = f"{PROVIDER.replace('/Group/', '/Quiet/')}/workspaces/afterwards"
    job = job_body(cluster={"id": f"{workspace}/clusters/c"})
    assert shed.send("PUT", workspace, {"location": "local"}).status_code == 200
    assert shed.send("PUT", f"{workspace}/experiments/e").status_code == 200
    assert shed.send("PUT", f"{workspace}/clusters/c", cluster_body()).status_code == 202
    assert shed.send("PUT", f"{workspace}/experiments/e/jobs/j", job).status_code == 202
    assert shed.send("GET", f"{workspace}/experiments/e/jobs/j").json()["properties"]["executionState"] == "queued"
