"""Any process of the local engine may be killed at any time: what it tells afterwards is true, and nothing lives on.

With namespaces and without, and with jobs that detach themselves and drop their environment.
"""

from __future__ import annotations

import json
import os
import signal
from functools import partial
from pathlib import Path

import pytest

from tests.engines.conformance import STOP, mounts
from tests.engines.conftest import InLab, run_in_lab
from tests.engines.lab import Lab, cluster_spec, eventually, living, mark, sleeper, stubborn
from tests.engines.processes import ancestor_below, daemon_pid, everything_below, groups_of
from trainshed.engines.local.job_users import hindrance
from trainshed.engines.local.layout import Layout
from trainshed.engines.local.leftovers import marked
from trainshed.engines.protocol import EngineUnavailable, GangResult
from trainshed.resources.reasons import ReasonCode
from trainshed.resources.users import UserRange

pytestmark = pytest.mark.slow


USERS = UserRange(1900001100, 1900001109)


@pytest.fixture(autouse=True, params=["namespaces", "none", "strangers"])
def isolation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which kind of isolation the daemon is started with, and whether jobs have a user of their own."""
    monkeypatch.setenv("TRAINSHED_ISOLATION", "none" if request.param == "none" else "")
    if request.param == "strangers" and (why := hindrance(USERS)):
        pytest.skip(f"jobs cannot have a user of their own here: {why}")
    return str(request.param)


@pytest.fixture
def in_lab(home: Path, isolation: str) -> InLab:
    """Runs a coroutine with a started engine of the test's home."""
    return partial(run_in_lab, home, user=USERS.user(1) if isolation == "strangers" else None)


def test_killed_runner(in_lab: InLab, home: Path) -> None:
    async def body(lab: Lab) -> None:
        cluster = cluster_spec()
        nodes = await lab.add_nodes(1, cluster)
        foreground, detached = mark(), mark()
        attempt = await lab.run(f"{stubborn(detached)}; {sleeper(foreground)}", nodes, cluster)
        await eventually(lambda: living(foreground) and living(detached), "the job")
        os.kill(ancestor_below(living(foreground)[0], daemon_pid(home))[1], signal.SIGKILL)
        status = await lab.end_of(attempt)
        assert living(foreground) + living(detached) == []
        assert status.result is GangResult.LOST
        assert status.reason is not None and status.reason.code is ReasonCode.RUNNER_LOST
        # The node itself is whole.
        assert (await lab.node(nodes[0])).boot == 1
        assert (await lab.end_of(await lab.run("true", nodes, cluster))).result is GangResult.SUCCEEDED

    in_lab(body)


def test_killed_node_that_is_not_the_first_of_its_gang(in_lab: InLab, home: Path) -> None:
    async def body(lab: Lab) -> None:
        cluster = cluster_spec()
        nodes = await lab.add_nodes(2, cluster)
        name = mark()
        # Every node prepares; its directory of jobs tells which one it is.
        prepare = sleeper(f"{name}-$(basename $(dirname $AZ_BATCHAI_JOB_TEMP_DIR))")
        names = [f"{name}-{node_id}" for node_id in nodes]
        attempt = await lab.run("true", nodes, cluster, preparation=prepare)
        await eventually(lambda: all(map(living, names)), "both nodes prepare")
        os.kill(ancestor_below(living(names[1])[0], daemon_pid(home))[0], signal.SIGKILL)
        status = await lab.end_of(attempt)
        assert living(names[0]) + living(names[1]) == []
        assert status.result is GangResult.LOST
        assert status.reason is not None and status.reason.code is ReasonCode.NODE_LOST
        assert nodes[1] in (status.reason.text, *status.reason.details.values())
        await lab.node(nodes[1], boot=2)
        assert (await lab.node(nodes[0])).boot == 1
        assert (await lab.end_of(await lab.run("true", nodes, cluster))).result is GangResult.SUCCEEDED

    in_lab(body)


def test_calls_fail_at_once_while_the_daemon_is_away(in_lab: InLab, home: Path) -> None:
    async def body(lab: Lab) -> None:
        os.kill(daemon_pid(home), signal.SIGKILL)
        with pytest.raises(EngineUnavailable) as refusal:
            await lab.engine.view()
        assert refusal.value.reason.code is ReasonCode.ENGINE_UNAVAILABLE
        await lab.until(lambda view: True, "the engine again")

    in_lab(body)


def test_stopped_in_vain_is_killed(in_lab: InLab, home: Path) -> None:
    """A runner that is frozen (SIGSTOP) cannot carry out the stop: its node does."""

    async def body(lab: Lab) -> None:
        cluster = cluster_spec()
        nodes = await lab.add_nodes(1, cluster)
        name = mark()
        attempt = await lab.run(sleeper(name), nodes, cluster)
        await eventually(lambda: living(name), "the job")
        os.kill(ancestor_below(living(name)[0], daemon_pid(home))[1], signal.SIGSTOP)
        await lab.engine.stop_gang(attempt, STOP, 0.1)
        status = await lab.end_of(attempt)
        assert living(name) == []
        assert (status.result, status.reason) == (GangResult.STOPPED, STOP)

    in_lab(body)


def test_shut_down_leaves_nothing_but_files(in_lab: InLab, home: Path, isolation: str) -> None:
    async def body(lab: Lab) -> None:
        cluster = cluster_spec()
        nodes = await lab.add_nodes(2, cluster)
        name = mark()
        attempt = await lab.run(f"{stubborn(name)}; sleep 1000", nodes[:1], cluster)
        await eventually(lambda: living(name), "the job")
        layout = Layout(home)
        assert isolation == "none" or os.geteuid() != 0 or groups_of(home)
        await lab.engine.shut_down()
        assert living(name) == []
        assert marked(layout.mark) == []
        assert not layout.socket.exists()
        assert groups_of(home) == []
        # A later service finds the nodes and the truth about the gang again.
        await lab.restart_service()
        await lab.node(nodes[0], boot=2)
        assert (await lab.end_of(attempt)).result in (GangResult.LOST, GangResult.STOPPED)

    in_lab(body)


def test_an_empty_record_of_an_attempt_does_not_stop_the_daemon(in_lab: InLab, home: Path) -> None:
    """A power cut may leave an attempt's file empty: then only the runners' durable words count."""

    async def body(lab: Lab) -> None:
        cluster = cluster_spec()
        nodes = await lab.add_nodes(1, cluster)
        attempt = await lab.run("exit 4", nodes, cluster)
        status = await lab.end_of(attempt)
        (Layout(home).attempt(attempt) / "gang.json").write_text("")
        os.kill(daemon_pid(home), signal.SIGKILL)
        await lab.node(nodes[0], boot=2)
        assert await lab.end_of(attempt) == status

    in_lab(body)


def test_records_hold_no_secrets(in_lab: InLab, home: Path) -> None:
    async def body(lab: Lab) -> None:
        cluster = cluster_spec(setup_secrets={"TOKEN": "setup-secret-value"}, node_setup=None)
        nodes = await lab.add_nodes(1, cluster)
        attempt = await lab.run("test $KEY = job-secret-value", nodes, cluster, secrets={"KEY": "job-secret-value"})
        assert (await lab.end_of(attempt)).result is GangResult.SUCCEEDED
        written = everything_below(home)
        assert json.dumps(nodes[0]).encode() in written
        assert b"secret-value" not in written
        assert mounts(lab, cluster).is_dir()

    in_lab(body)
