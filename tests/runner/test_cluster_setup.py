"""nodeSetup that each attempt sees to: the setup task once a node, the cluster's volumes for each attempt."""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.runner.harness import Runner, custom, make_spec, run, stdouterr, wait_for, wait_gone
from trainshed.resources.volume_sources import volume_sources
from trainshed.runner import isolation
from trainshed.runner.spec import NodeSetup, Outcome, RunnerSpec
from trainshed.volumes.unmanaged import is_mounted

pytestmark = pytest.mark.slow


def task(command: str, **more: Any) -> dict[str, Any]:
    return {"commandLine": command, "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/setup", **more}


def spec_of(
    root: Path,
    command: str = "true",
    setup: dict[str, Any] | None = None,
    volumes: dict[str, Any] | None = None,
    *,
    at: str = "",
    **more: Any,
) -> RunnerSpec:
    """``at``: a folder of the attempt's own; the node's folder for marks is the same for all."""
    sources = tuple(volume_sources(volumes, "/nodeSetup/mountVolumes"))
    spec = make_spec(
        root,
        custom(command),
        setup=NodeSetup("cluster", setup, "suffix", sources, str(root / "marks")),
        cluster_volumes=sources,
        **more,
    )
    own = root / "own" / (at or "one") / str(spec.node_index)
    places = replace(
        spec.directories, job_temp_root=str(own / "jobs"), state=str(own / "state"), volumes=str(own / "volumes")
    )
    return replace(spec, directories=places)


def output(root: Path, name: str = "stdout-node-0.txt") -> str:
    return (root / "mounts" / "setup" / "suffix" / name).read_text()


def reason_of(outcome: Outcome) -> dict[str, Any]:
    assert outcome.reason is not None
    return outcome.reason


def test_the_setup_task_runs_once_a_node_and_definition(tmp_path: Path) -> None:
    first = task("echo first $WHO $KEY; echo said >&2", environmentVariables=[{"name": "WHO", "value": "me"}])
    for at in ("one", "two"):
        with Runner(spec_of(tmp_path, setup=first, at=at), setup_secrets={"KEY": "k3y"}) as runner:
            assert runner.outcome().result == "succeeded"
    assert (output(tmp_path), output(tmp_path, "stderr-node-0.txt")) == ("first me k3y\n", "said\n")
    assert run(spec_of(tmp_path, setup=task("echo second"), at="three")).result == "succeeded"
    assert run(spec_of(tmp_path, setup=first, at="four")).result == "succeeded"
    assert [line.split()[0] for line in output(tmp_path).splitlines()] == ["first", "second", "first"]
    assert not any("k3y" in path.read_text() for path in (tmp_path / "marks").iterdir())


def test_after_a_start_of_the_machine_it_runs_again(tmp_path: Path) -> None:
    run(spec_of(tmp_path, setup=task("echo ran"), at="one"))
    (mark,) = [path for path in (tmp_path / "marks").iterdir() if not path.name.endswith("lock")]
    mark.write_text("of an earlier start")
    run(spec_of(tmp_path, setup=task("echo ran"), at="two"))
    assert output(tmp_path) == "ran\nran\n"


def test_two_attempts_at_once_run_it_once(tmp_path: Path) -> None:
    setup = task("echo began; until [ -e $AZ_BATCHAI_MOUNT_ROOT/go ]; do sleep 0.02; done; echo ended")
    with ExitStack() as stack:
        both = [stack.enter_context(Runner(spec_of(tmp_path, setup=setup, at=at))) for at in ("one", "two")]
        wait_for(tmp_path / "mounts/setup/suffix/stdout-node-0.txt")
        (tmp_path / "mounts/go").touch()
        assert [runner.outcome().result for runner in both] == ["succeeded"] * 2
    assert output(tmp_path) == "began\nended\n"


def test_a_task_that_fails_loses_the_attempt_and_is_tried_again_by_the_next(tmp_path: Path) -> None:
    setup = task("echo no $KEY >&2; [ -e $AZ_BATCHAI_MOUNT_ROOT/disk ] || exit 3")
    with Runner(spec_of(tmp_path, setup=setup), setup_secrets={"KEY": "k3y"}) as runner:
        outcome = runner.outcome()
    reason = reason_of(outcome)
    assert (outcome.result, reason["code"]) == ("lost", "SetupTaskFailed")
    assert reason["details"] == {"node": "node-0", "exitCode": "3", "stderr": "no ***"}
    (tmp_path / "mounts/disk").touch()
    assert run(spec_of(tmp_path, setup=setup, at="two")).result == "succeeded"


def test_a_stop_ends_the_setup_and_all_of_it(tmp_path: Path, isolation_kind: str) -> None:
    setup = task("echo up; export TEST_MARK=$AZ_BATCHAI_MOUNT_ROOT; (setsid sleep 600) & sleep 600")
    with Runner(spec_of(tmp_path, setup=setup)) as runner:
        wait_for(tmp_path / "mounts/setup/suffix/stdout-node-0.txt")
        runner.stop()
        assert runner.outcome().result == "stopped"
    wait_gone(f"TEST_MARK={tmp_path}")


def test_a_runner_that_is_killed_leaves_nothing_of_the_setup(tmp_path: Path) -> None:
    setup = task("echo up; export TEST_MARK=$AZ_BATCHAI_MOUNT_ROOT; (setsid sleep 600) & sleep 600")
    with Runner(spec_of(tmp_path, setup=setup)) as runner:
        wait_for(tmp_path / "mounts/setup/suffix/stdout-node-0.txt")
        os.kill(runner.pid, 9)
        wait_gone(f"TEST_MARK={tmp_path}")


def test_what_it_leaves_in_the_background_ends_with_the_attempt(tmp_path: Path) -> None:
    setup = task("export TEST_MARK=$AZ_BATCHAI_MOUNT_ROOT; (exec setsid sleep 600) > /dev/null 2>&1 &")
    spec = spec_of(tmp_path, "ls -d /proc/[0-9]* > /dev/null", setup)
    assert run(spec).result == "succeeded"
    wait_gone(f"TEST_MARK={tmp_path}")


def volumes_of(root: Path) -> dict[str, Any]:
    (root / "data").mkdir(exist_ok=True)
    allowed = {"path": str(root / "data"), "read_only": False, "owner": ""}
    return {
        "hostDirectories": [{"path": str(root / "data"), "relativeMountPath": "data", "allowed": [allowed]}],
        "unmanagedFileSystems": [{"mountCommand": "mount -t tmpfs none", "relativeMountPath": "scratch"}],
    }


@pytest.mark.usefixtures("namespaces")
@pytest.mark.skipif(os.geteuid() != 0, reason="volumes of a cluster need root")
def test_the_cluster_s_volumes_are_there_for_setup_and_job_and_seen_by_nobody_else(tmp_path: Path) -> None:
    root = "$AZ_BATCHAI_MOUNT_ROOT"
    setup = task(f"echo setup > {root}/data/setup; echo setup > {root}/scratch/setup")
    job = f"cat {root}/data/setup {root}/scratch/setup; echo kept > {root}/data/job; echo up > {root}/up; sleep 600"
    with Runner(spec_of(tmp_path, job, setup, volumes_of(tmp_path))) as runner:
        wait_for(tmp_path / "mounts/up")
        assert not any(is_mounted(str(tmp_path / "mounts" / name)) for name in ("data", "scratch"))
        assert (stdouterr(tmp_path) / "stdout.txt").read_text() == "setup\nsetup\n"
        runner.stop()
        assert runner.outcome().result == "stopped"
    assert {path.name for path in (tmp_path / "data").iterdir()} == {"job", "setup"}
    assert not [path for name in ("data", "scratch") for path in (tmp_path / "mounts" / name).iterdir()]


@pytest.mark.usefixtures("namespaces")
@pytest.mark.skipif(os.geteuid() != 0, reason="volumes of a cluster need root")
def test_a_volume_that_cannot_be_mounted_loses_the_attempt(tmp_path: Path) -> None:
    volumes = {"unmanagedFileSystems": [{"mountCommand": "echo no such server; false", "relativeMountPath": "v"}]}
    outcome = run(spec_of(tmp_path, volumes=volumes))
    assert (outcome.result, reason_of(outcome)["code"]) == ("lost", "VolumeMountError")
    assert reason_of(outcome)["details"]["node"] == "node-0"
    assert "no such server" in reason_of(outcome)["text"]


@pytest.mark.skipif(os.geteuid() != 0, reason="takes another user")
@pytest.mark.parametrize(("user", "missing"), [(65534, "not root"), (None, "forbids namespaces")])
def test_without_the_right_to_mount_the_error_says_what_is_missing(
    user: int | None, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if user is None:
        monkeypatch.setenv(isolation.ISOLATION_VARIABLE, "none")
    with tempfile.TemporaryDirectory() as folder:
        spec = spec_of(Path(folder), volumes=volumes_of(Path(folder)))
        if user is not None:
            os.chown(folder, user, user)
        with Runner(spec, uid=user) as runner:
            outcome = runner.outcome()
    assert (outcome.result, reason_of(outcome)["code"]) == ("failed", "VolumeMountError")
    assert missing in reason_of(outcome)["details"]["missing"]


def test_a_gang_is_lost_with_the_node_whose_setup_fails(tmp_path: Path, port: int) -> None:
    specs = [
        spec_of(tmp_path, "touch $AZ_BATCHAI_MOUNT_ROOT/ran", task(f"exit {code}"), nodes=2, index=index, port=port)
        for index, code in enumerate((0, 7))
    ]
    with ExitStack() as stack:
        outcomes = [runner.outcome() for runner in [stack.enter_context(Runner(spec)) for spec in specs]]
    for outcome in outcomes:
        assert (outcome.result, reason_of(outcome)["code"]) == ("lost", "SetupTaskFailed")
        assert reason_of(outcome)["details"]["node"] == "node-1"
    assert not (tmp_path / "mounts/ran").exists()
