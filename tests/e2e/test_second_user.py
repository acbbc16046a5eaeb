"""The service turns isolation on by itself as soon as somebody else may submit jobs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.test_hostile_job import USERS
from tests.support.live_service import LiveService, custom
from trainshed.engines.local.job_users import hindrance, last_told

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(bool(hindrance(USERS)), reason=f"jobs cannot have users of their own here: {hindrance(USERS)}"),
]


def test_a_second_user_makes_jobs_strangers(tmp_path: Path) -> None:
    live = LiveService(tmp_path / "home", "--job-users", str(USERS)).start()
    try:
        cluster = live.make_cluster(1)
        with live.client as client:

            def uid(name: str) -> int:
                client.jobs.create(name, custom("id -u; whoami", cluster), wait=False)
                client.jobs.wait(name, interval=0.05, timeout=60)
                return int(b"".join(client.jobs.stream_log(name)).split()[0])

            assert uid("alone") == 0
            assert "one user" in (last_told(live.home) or (True, ""))[1]
            client.principals.create("second@example.org")
            assert uid("among-others") == USERS.user(1).uid
            assert "several users" in (last_told(live.home) or (True, ""))[1]
    finally:
        live.stop()
