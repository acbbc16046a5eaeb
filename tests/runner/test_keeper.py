"""The keeper of an attempt's namespace, killed by somebody else: the attempt is lost, at whatever stage it was."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.runner.harness import BOUND, Runner, custom, keeper_of, make_spec, stdouterr, wait_for
from tests.runner.test_serving import Server
from tests.runner.test_stranger import USER, view_of
from trainshed.runner import main
from trainshed.runner.spec import Outcome, RunnerSpec

BEGIN = "echo y > $AZ_BATCHAI_JOB_TEMP/begun; exec sleep 600"

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("namespaces")]


def wait_dead(pid: int) -> None:
    until = time.monotonic() + BOUND
    while b") Z " not in Path(f"/proc/{pid}/stat").read_bytes():
        assert time.monotonic() < until, "it does not die"
        time.sleep(0.005)


def is_lost(outcome: Outcome, node: str = "node-0") -> bool:
    reason = outcome.reason or {}
    return (outcome.result, outcome.exit_code, reason.get("code"), reason.get("details", {}).get("node")) == (
        *("lost", None, "RunnerLost"),
        node,
    )


def kill_when(spec: RunnerSpec, begun: Path) -> Outcome:
    with Runner(spec) as runner:
        wait_for(begun)
        os.kill(keeper_of(runner.pid), signal.SIGKILL)
        return runner.outcome()


def test_a_job_is_not_taken_for_one_that_killed_itself(tmp_path: Path) -> None:
    # Its processes are seen to end before the keeper is: every time.
    for number in range(10):
        place = tmp_path / str(number)
        command = "for i in $(seq 8); do sleep 600 & done; echo y > $AZ_BATCHAI_JOB_TEMP/begun; exec sleep 600"
        spec = make_spec(place, custom(command))
        assert is_lost(kill_when(spec, place / "n0/jobs/ws/exp/job/begun"))
        assert "was killed" in (stdouterr(place) / "execution.log").read_text()


def test_a_job_that_kills_itself_has_failed(tmp_path: Path) -> None:
    with Runner(make_spec(tmp_path, custom("kill -9 $$"))) as runner:
        outcome = runner.outcome()
    assert (outcome.result, outcome.exit_code) == ("failed", 137)


def test_while_it_prepares(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, custom("true", jobPreparation={"commandLine": BEGIN}))
    assert is_lost(kill_when(spec, tmp_path / "n0/jobs/ws/exp/job/begun"))


@pytest.mark.parametrize("seen", [False, True])
def test_with_a_volume_of_the_job_s(tmp_path: Path, seen: bool) -> None:
    """Nothing can be started any more that would unmount it, but it ends with the attempt."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount, and start processes as another user")
    for folder in ("mounts", "n0/jobs"):
        (tmp_path / folder).mkdir(parents=True)
    mount = {"mountCommand": "mount -t tmpfs -o mode=1777 none", "relativeMountPath": "v"}
    job = custom(BEGIN, mountVolumes={"unmanagedFileSystems": [mount]})
    spec = make_spec(tmp_path, job, view=view_of(tmp_path, USER) if seen else None)
    assert is_lost(kill_when(spec, tmp_path / "n0/jobs/ws/exp/job/begun"))
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()


def test_in_a_view_of_the_job_s_own(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can start processes as another user")
    for folder in ("mounts", "n0/jobs"):
        (tmp_path / folder).mkdir(parents=True)
    spec = make_spec(tmp_path, custom(BEGIN), view=view_of(tmp_path, USER))
    assert is_lost(kill_when(spec, tmp_path / "n0/jobs/ws/exp/job/begun"))


@pytest.mark.parametrize("dies", [0, 1])
def test_of_one_node_of_a_gang(tmp_path: Path, port: int, dies: int) -> None:
    # The job runs on the first node; on the second one nothing does, and nobody sees an end there.
    job = custom("echo y > $AZ_BATCHAI_MOUNT_ROOT/begun; exec sleep 600", nodeCount=2)
    specs = [make_spec(tmp_path, job, nodes=2, index=index, port=port) for index in (0, 1)]
    with ExitStack() as stack:
        runners = [stack.enter_context(Runner(spec)) for spec in specs]
        wait_for(tmp_path / "mounts/begun")
        os.kill(keeper_of(runners[dies].pid), signal.SIGKILL)
        outcomes = [runner.outcome() for runner in runners]
    assert all(is_lost(outcome, f"node-{dies}") for outcome in outcomes), outcomes


def test_a_runner_that_serves_goes_on(tmp_path: Path) -> None:
    main.warm_up("node-0")
    server = Server(tmp_path)
    try:
        server.begin(custom(BEGIN))
        wait_for(tmp_path / "n0/jobs/ws/exp/job/begun")
        os.kill(keeper_of(server.pid), signal.SIGKILL)
        ended = server.end()
        assert is_lost(Outcome.from_dict(ended["outcome"])) and ended["again"], ended
        assert server.run(custom("true"))["outcome"]["exit_code"] == 0
        # Between two attempts: the next one gets another.
        kept = keeper_of(server.pid)
        os.kill(kept, signal.SIGKILL)
        wait_dead(kept)
        assert server.run(custom("true"))["outcome"]["exit_code"] == 0
        assert keeper_of(server.pid, but=kept)
    finally:
        server.close()
