"""A job is a stranger: what a hostile one tries against the service, its machine and a neighbour, fails.

One service, two workspaces. A neighbour's jobs run all the while, and the service is asked all the while.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import hostile_targets
from tests.support.live_service import LiveService, custom
from trainshed.client import Client, Connection, Scope
from trainshed.engines.local.cgroups import processes_of_a_node, trees
from trainshed.engines.local.disk import free
from trainshed.engines.local.job_users import hindrance
from trainshed.resources.users import UserRange

USERS = UserRange(1900002000, 1900002009)
PAYLOAD = Path(__file__).with_name("hostile.py").read_text()
#: In the neighbour's environment and files.
MARKER = "marker-of-the-neighbour-4711"
#: Room that the hostile job has on the disk, in bytes.
ROOM = 200 << 20

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(bool(hindrance(USERS)), reason=f"jobs cannot have users of their own here: {hindrance(USERS)}"),
]


class Neighbourhood:
    """The service, the two workspaces on it, and who watches them."""

    def __init__(self, live: LiveService) -> None:
        self.live = live
        self.hostile = self.workspace("hostile", nodes=1)
        self.neighbour = self.workspace("neighbour", nodes=2)
        told = live.told()
        storage = live.home / "storage/acct/files/share"
        storage.mkdir(parents=True)
        (storage / "secret").write_text(MARKER)
        self.neighbour_job("calm", nodes=2)
        self._watching = True
        self.slowest = 0.0
        self.faults: list[str] = []
        self._connection = Connection(told["url"], told["token"])
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()

    def workspace(self, name: str, nodes: int, setup: dict[str, Any] | None = None, cluster: str = "c") -> Client:
        told = self.live.told()
        client = Client(Scope(workspace=name, experiment="e"), connection=Connection(told["url"], told["token"]))
        client.workspaces.create(name, location="local")
        client.experiments.create("e")
        self.cluster(client, cluster, nodes, setup)
        self.live.wait_for(lambda: client.clusters.get(cluster).nodes_in("idle") == nodes, f"nodes of {name}")
        return client

    def cluster(self, client: Client, name: str, nodes: int, setup: dict[str, Any] | None = None) -> None:
        client.clusters.create(
            name,
            {
                "vmSize": "STANDARD_A1",
                "scaleSettings": {"manual": {"targetNodeCount": nodes}},
                "userAccountSettings": {"adminUserName": "tester", "adminUserPassword": "only-for-tests-1"},
                **({"nodeSetup": setup} if setup else {}),
            },
        )

    def neighbour_job(self, name: str, nodes: int) -> None:
        """Works until it is told that it may end."""
        command = "until [ -e $AZ_BATCHAI_MOUNT_ROOT/end ]; do date > $HOME/tick; sleep 0.05; done; echo ok"
        variables = [{"name": "PRIVATE", "value": MARKER}]
        properties = custom(command, self.cluster_id(self.neighbour), nodes, environmentVariables=variables)
        self.neighbour.jobs.create(name, properties, wait=False)
        self.live.wait_for(lambda: list((self.live.home / "nodes").glob("*/jobs/**/tick")), "the neighbour", 60)

    def cluster_id(self, client: Client, name: str = "c") -> str:
        return str(client.clusters.get(name).id)

    def run(self, name: str, command: str, *, cluster: str = "c", **more: Any) -> Any:
        """A hostile job to its end."""
        properties = custom(command, self.cluster_id(self.hostile, cluster), **more)
        self.hostile.jobs.create(name, properties, wait=False)
        return self.hostile.jobs.wait(name, interval=0.1, timeout=120)

    def output(self, client: Client, name: str, file: str = "stdout.txt") -> str:
        segment = client.jobs.get(name).properties["jobOutputDirectoryPathSegment"]
        found = list((self.live.home / "clusters").glob(f"*/mounts/logs/{segment}/stdouterr/{file}"))
        return found[0].read_text(errors="replace") if found else ""

    def targets(self) -> dict[str, Any]:
        return hostile_targets.of(self.live, self.neighbour, MARKER)

    def _watch(self) -> None:
        client = Client(Scope(), connection=self._connection)
        while self._watching:
            started = time.monotonic()
            try:
                client.workspaces.create("watched", location="local")
            except Exception as error:
                self.faults.append(repr(error))
            self.slowest = max(self.slowest, time.monotonic() - started)
            time.sleep(0.05)

    def all_goes_on(self) -> None:
        """The service has answered all the while, with changes made; the neighbour works, as the same attempt."""
        assert self.faults == []
        assert self.slowest < 10
        job = self.neighbour.jobs.get("calm")
        assert job.execution_state.value == "running", job
        assert "attempt 1 of" in self.output(self.neighbour, "calm", "execution.log")

    def close(self) -> None:
        self._watching = False
        self._watcher.join()


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Neighbourhood]:
    home = tmp_path_factory.mktemp("hostile") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRAINSHED_DISK_RESERVE", str(free(home.parent) - ROOM))
        live = LiveService(home, "--isolate-jobs", "always", "--job-users", str(USERS)).start()
    neighbourhood = None
    try:
        neighbourhood = Neighbourhood(live)
        yield neighbourhood
    finally:
        if neighbourhood is not None:
            neighbourhood.close()
        live.stop()


def payload(targets: dict[str, Any]) -> str:
    """A command line that carries out every attempt of the payload."""
    return (
        f"export TARGETS={shlex.quote(json.dumps(targets))}\npython3 - <<'END-OF-PAYLOAD'\n{PAYLOAD}\nEND-OF-PAYLOAD\n"
    )


def verdicts(text: str) -> tuple[list[str], list[str]]:
    lines = text.splitlines()
    assert lines and lines[-1].startswith("tried "), text
    held = [line for line in lines if line.startswith("held ")]
    broken = [line for line in lines if line.startswith("BROKEN ")]
    assert len(held) + len(broken) == int(lines[-1].split()[1])
    return held, broken


def test_nothing_is_gained(there: Neighbourhood) -> None:
    job = there.run("attack", payload(there.targets()))
    told = there.output(there.hostile, "attack")
    held, broken = verdicts(told)
    assert broken == []
    assert len(held) > 20
    assert job.execution_state.value == "succeeded", there.output(there.hostile, "attack", "stderr.txt")[-2000:]
    there.all_goes_on()


def test_the_payload_finds_what_is_open(tmp_path: Path) -> None:
    """The attempts are real: against a machine that is not protected they succeed."""
    (tmp_path / "vault.key").write_text("key")
    targets = {
        "home": str(tmp_path),
        "above": [],
        "pids": [],
        "foreign": [str(tmp_path)],
        "runners": [],
        "marker": MARKER,
        "api": "http://127.0.0.1:9/",
    }
    text = "read_the_services_secrets", "read_another_workspaces_outputs"
    script = PAYLOAD.replace("for name, function in ATTEMPTS:", "for name, function in ATTEMPTS[0:1] + ATTEMPTS[2:3]:")
    done = subprocess.run(
        [sys.executable, "-"],
        input=script,
        text=True,
        capture_output=True,
        env={"TARGETS": json.dumps(targets)},
        check=True,
    )
    assert [line.split(":")[0] for line in done.stdout.splitlines()[:-1]] == [f"BROKEN {name}" for name in text]


def test_links_lead_the_service_nowhere(there: Neighbourhood) -> None:
    """Outputs are read by the service, which is root: not through links into another workspace's files."""
    guest = custom("echo private > $AZ_BATCHAI_STDOUTERR_DIR/private", there.cluster_id(there.hostile))
    there.neighbour.jobs.create("guest", guest, wait=False)
    there.neighbour.jobs.wait("guest", interval=0.1, timeout=60)
    assert "private" in [file.name for file in there.neighbour.jobs.output_files("guest")]
    segment = there.neighbour.jobs.get("guest").properties["jobOutputDirectoryPathSegment"]
    other = f"$AZ_BATCHAI_MOUNT_ROOT/logs/{segment}/stdouterr"
    there.run(
        "links",
        f"cd $AZ_BATCHAI_OUTPUT_O; ln -s {other} stolen; ln -s /etc etc; echo mine > mine",
        outputDirectories=[{"id": "O", "pathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/logs"}],
    )
    names = [file.name for file in there.hostile.jobs.output_files("links", "O")]
    assert names == ["mine"]
    there.run("peek", f"ls {other}/private || cat {other}/private")
    assert "private" not in there.output(there.hostile, "peek")
    there.run("swap", f"cd /; rm -rf $AZ_BATCHAI_STDOUTERR_DIR; ln -s {other} $AZ_BATCHAI_STDOUTERR_DIR")
    assert list(there.hostile.jobs.output_files("swap")) == []
    there.all_goes_on()


def test_filling_the_disk_ends_the_job_alone(there: Neighbourhood) -> None:
    job = there.run("fill", "dd if=/dev/zero of=$AZ_BATCHAI_JOB_TEMP/fill bs=1M count=6000; echo not reached")
    (error,) = job.properties["executionInfo"]["errors"]
    assert error["code"] == "JobDiskLimitExceeded", job
    assert "not reached" not in there.output(there.hostile, "fill")
    assert not list((there.live.home / "nodes").glob("*/jobs/**/fill"))
    unnamed = "exec 3>/tmp/unnamed; rm /tmp/unnamed; dd if=/dev/zero bs=1M count=6000 >&3; echo not reached"
    job = there.run("fill-unnamed", unnamed)
    assert job.properties["executionInfo"]["errors"][0]["code"] == "JobDiskLimitExceeded", job
    there.all_goes_on()


@pytest.mark.skipif("pids" not in trees(), reason="this machine has no pids control group")
def test_a_fork_bomb_is_bounded(there: Neighbourhood) -> None:
    bomb = """python3 - <<'END'
import os, time
count = 0
try:
    while True:
        if os.fork() == 0:
            time.sleep(1000)
        count += 1
except OSError as error:
    print(count, error.errno, flush=True)
END"""
    there.run("bomb", bomb)
    count, number = map(int, there.output(there.hostile, "bomb").split())
    assert number == 11
    assert processes_of_a_node() * 0.9 < count < processes_of_a_node()
    there.all_goes_on()


@pytest.mark.skipif("memory" not in trees(), reason="this machine has no memory control group")
def test_a_memory_bomb_takes_the_job_alone(there: Neighbourhood) -> None:
    bomb = "python3 -c 'a = []\nwhile True: a.append(bytearray(64 << 20))'"
    job = there.run("memory", bomb)
    assert job.properties["executionInfo"]["exitCode"] == 137, job
    there.all_goes_on()


def test_setup_and_mount_commands_are_nobodys_root(there: Neighbourhood) -> None:
    """The same attempts by the node's root, in the cluster's setup task and in a mount command of a job."""
    attack = payload(there.targets())
    setup = {
        "setupTask": {
            "commandLine": f"id -u; {attack}",
            "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/logs",
        }
    }
    there.cluster(there.hostile, "s", 1, setup)
    there.live.wait_for(lambda: there.hostile.clusters.get("s").nodes_in("idle") == 1, "the setup", 90)
    (log,) = (there.live.home / "clusters").glob("*/mounts/logs/**/stdout-tvm-*.txt")
    root, *told = log.read_text().splitlines()
    assert root == "0"
    assert log.stat().st_uid == USERS.user(1).root
    # Root of a user namespace may mount, and be root there; it may do it for itself only.
    allowed = {"mount_a_file_system", "bind_mount", "become_root", "become_root_by_a_program", "raise_its_own_limits"}
    allowed |= {"signal_the_keeper", "enter_namespaces_of_others"}  # the namespace's first process is its own
    _, broken = verdicts("\n".join(told))
    assert [line for line in broken if line.split()[1].rstrip(":") not in allowed] == []

    there.all_goes_on()
    volumes = {"unmanagedFileSystems": [{"relativeMountPath": "v", "mountCommand": "bash $AZ_BATCHAI_MOUNT_ROOT/x.sh"}]}
    script = f"({attack}) > $AZ_BATCHAI_MOUNT_ROOT/said; mount -t tmpfs none $1"
    there.run("write", f"cat > $AZ_BATCHAI_MOUNT_ROOT/x.sh <<'SCRIPT'\n{script}\nSCRIPT", cluster="s")
    job = there.run("volume", "id -u", cluster="s", mountVolumes=volumes)
    assert job.execution_state.value == "succeeded", job
    assert there.output(there.hostile, "volume") == f"{USERS.user(1).uid}\n"
    (said,) = (there.live.home / "clusters").glob("*/mounts/said")
    _, broken = verdicts(said.read_text())
    assert [line for line in broken if line.split()[1].rstrip(":") not in allowed] == []
    there.all_goes_on()


def test_the_neighbour_succeeds(there: Neighbourhood) -> None:
    """Last: after everything above."""
    segment = there.neighbour.jobs.get("calm").properties["jobOutputDirectoryPathSegment"]
    (folder,) = (there.live.home / "clusters").glob(f"*/mounts/logs/{segment}")
    (folder.parents[len(Path(segment).parts)] / "end").touch()
    job = there.neighbour.jobs.wait("calm", interval=0.1, timeout=60)
    assert job.execution_state.value == "succeeded", job
    assert there.output(there.neighbour, "calm") == "ok\n"
    assert not Path("/etc/gained").exists()
    assert os.geteuid() == 0
