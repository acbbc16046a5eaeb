"""Jobs in containers, through the service: images that are made here, and a registry of our own."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.support.containers import PROGRAMS, Registry, Store, hindrance, root_file_system
from tests.support.live_service import LiveService, custom
from trainshed.engines.local.job_users import hindrance as no_strangers
from trainshed.engines.local.layout import Layout
from trainshed.resources.users import UserRange

USERS = UserRange(1900004000, 1900004009)
LOCAL = "localhost/plain"

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(bool(hindrance()), reason=hindrance()),
]


class House:
    """A service whose nodes know the tests' images."""

    def __init__(self, live: LiveService, store: Store, strangers: bool) -> None:
        self.live, self.store, self.strangers = live, store, strangers
        self.cluster = live.make_cluster(2)
        self.client = live.client
        [self.mounts] = live.home.glob("clusters/*/mounts")
        self._numbers = count()

    def start(self, command: str, image: str = LOCAL, *, nodes: int = 1, cluster: str = "", **more: Any) -> str:
        """The name of a job in a container."""
        name = f"job-{next(self._numbers)}"
        settings = {"imageSourceRegistry": {"image": image, **more.pop("registry", {})}}
        settings |= more.pop("settings", {})
        properties = custom(command, cluster or self.cluster, nodes, containerSettings=settings, **more)
        properties = {member: value for member, value in properties.items() if value is not None}
        self.client.jobs.create(name, properties, wait=False)
        return name

    def end(self, name: str) -> Any:
        return self.client.jobs.wait(name, interval=0.05, timeout=60)

    def run(self, command: str, image: str = LOCAL, **more: Any) -> tuple[Any, str]:
        """A job to its end, and its name."""
        name = self.start(command, image, **more)
        return self.end(name), name

    def output(self, name: str, file: str = "stdout.txt") -> str:
        segment = self.client.jobs.get(name).properties["jobOutputDirectoryPathSegment"]
        found = list((self.live.home / "clusters").glob(f"*/mounts/logs/{segment}/stdouterr/{file}"))
        return found[0].read_text(errors="replace") if found else ""

    def said(self, command: str, image: str = LOCAL, **more: Any) -> str:
        """What a job that succeeds prints."""
        job, name = self.run(command, image, **more)
        state = job.execution_state.value
        assert state == "succeeded", (job.properties["executionInfo"], self.output(name, "stderr.txt"))
        return self.output(name)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    made = Store(tmp_path_factory.mktemp("images"))
    made.add(LOCAL, root_file_system(more={"root/.bashrc": "return\n"}), "ENV COLOUR=green", "ENV PATH=/opt/tools:/bin")
    made.add("localhost/once", root_file_system(more={"once": "once"}))
    made.add("localhost/no-shell", root_file_system(("cat",)))
    made.add("localhost/foreign", root_file_system(("cat",)), arch="s390x")
    return made


@pytest.fixture(scope="module")
def registry(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Has ``team/private:1``, which nodes have not."""
    if why_not := Registry.hindrance():
        pytest.skip(why_not)
    with Registry(tmp_path_factory.mktemp("registry") / "r") as running:
        credentials = f"--creds={running.USER}:{running.PASSWORD}"
        place = f"docker://{running.address}/team/private:1"
        store.podman("push", "--quiet", "--tls-verify=false", credentials, LOCAL, place)
        yield running


@pytest.fixture(scope="module", params=["own user", "strangers"])
def house(request: pytest.FixtureRequest, store: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    arguments = ["--isolate-jobs", "never"]
    if request.param == "strangers":
        if why_not := no_strangers(USERS):
            pytest.skip(why_not)
        arguments = ["--isolate-jobs", "always", "--job-users", str(USERS)]
    home = tmp_path_factory.mktemp("containers") / "home"
    live = LiveService(home, *arguments, more={"TRAINSHED_IMAGE_STORES": str(store.path)})
    live.start()
    try:
        yield House(live, store, request.param == "strangers")
    finally:
        live.stop()
    assert live.marked() == []


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])


def nothing_left(house: House) -> None:
    """No process, mount, control group or file of a container, on nodes that have no job."""
    assert [command for pid in house.live.marked() if "sleep" in (command := command_of(pid))] == []
    mark = Layout(house.live.home).mark
    assert list(Path("/sys/fs/cgroup").glob(f"**/{mark}-*-c")) == []
    assert list(house.live.home.glob("nodes/*/container/*")) == []
    mounts = set()
    for pid in house.live.marked():
        with suppress(OSError):
            mounts |= set(Path(f"/proc/{pid}/mountinfo").read_text().splitlines())
    assert [line for line in mounts if " overlay " in line and "upperdir=/mnt/work" in line] == []
    assert [pid for pid in house.live.marked() if "conmon" in command_of(pid)] == []


def test_preparation_and_job_share_a_container_with_variables_and_secrets(house: House) -> None:
    told = house.said(
        "cat /made-by-preparation; echo $COLOUR $FROM_BASHRC $PLAIN $HIDDEN $PATH; id -u; pwd; "
        "df /dev/shm; cat /etc/hosts",
        jobPreparation={
            "commandLine": "echo prepared > /made-by-preparation; echo 'export FROM_BASHRC=1' >> ~/.bashrc"
        },
        environmentVariables=[{"name": "PLAIN", "value": "in-$AZ_BATCHAI_JOB_TEMP"}],
        secrets=[{"name": "HIDDEN", "value": "s3cret"}],
        settings={"shmSize": "48m"},
    ).splitlines()
    assert told[0] == "prepared"
    colour, bashrc, plain, hidden, path = told[1].split()
    assert (colour, bashrc, hidden) == ("green", "1", "s3cret")
    assert path == "/opt/tools:/bin"
    assert told[2:4] == ["0", plain.removeprefix("in-")]
    assert told[5].split()[1] == str(48 << 10)
    assert told[6].endswith("\tc-1")


def test_exit_code_passes_and_files_belong_to_the_jobs_user(house: House) -> None:
    job, name = house.run(
        "echo kept > $AZ_BATCHAI_OUTPUT_MODEL/file; echo to-stderr >&2; exit 7",
        outputDirectories=[{"id": "MODEL", "pathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/out"}],
    )
    assert job.properties["executionInfo"]["exitCode"] == 7
    assert house.output(name, "stderr.txt") == "to-stderr\n"
    [kept] = house.live.home.glob("clusters/*/mounts/out/**/file")
    assert kept.read_text() == "kept\n"
    assert kept.stat().st_uid == (USERS.user(1).uid if house.strangers else 0)
    log = house.output(name, "execution.log")
    assert house.store.digest(LOCAL) in log
    assert "made by podman" in log


def signed_in(registry: Registry, password: str = Registry.PASSWORD) -> dict[str, Any]:
    return {"serverUrl": registry.address, "credentials": {"username": Registry.USER, "password": password}}


def test_image_of_a_private_registry_by_tag_and_by_digest(house: House, registry: Registry) -> None:
    assert house.said("echo $COLOUR", "team/private:1", registry=signed_in(registry)) == "green\n"
    credentials = f"--creds={Registry.USER}:{Registry.PASSWORD}"
    place = f"docker://{registry.address}/team/private:1"
    command = ["skopeo", "inspect", "--tls-verify=false", credentials, "--format={{.Digest}}", place]
    digest = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    job, name = house.run("true", f"team/private@{digest}", registry=signed_in(registry))
    assert job.execution_state.value == "succeeded"
    assert digest in house.output(name, "execution.log")
    [attempt] = house.client.jobs.attempts(name)
    assert attempt.json["container"] == {"image": f"team/private@{digest}", "digest": digest}


def test_nodes_fetch_an_image_once(house: House, registry: Registry) -> None:
    name = f"team/once-{int(house.strangers)}"
    credentials = f"--creds={Registry.USER}:{Registry.PASSWORD}"
    place = f"docker://{registry.address}/{name}:1"
    house.store.podman("push", "--quiet", "--tls-verify=false", credentials, "localhost/once", place)
    pushed = len(registry.fetched(name))
    house.said("true", f"{name}:1", nodes=2, registry=signed_in(registry), jobPreparation={"commandLine": "echo"})
    fetched = registry.fetched(name)[pushed:]
    assert fetched
    assert len(fetched) == len(set(fetched)), fetched


def test_a_strangers_container_shows_nothing_of_the_machine(house: House) -> None:
    if not house.strangers:
        pytest.skip("jobs that run as the service's own user may do what it may")
    home = house.live.home
    script = f"""
        ls {home} {home}/nodes {home}/engine {home}/clusters 2>&1
        for path in {home}/vault.key {home}/admin.token /proc/1/root/etc/shadow /proc/1/environ; do
            cat $path && echo READ
        done
        kill -9 1 2> /dev/null && echo KILLED
        (echo > /proc/sys/kernel/hostname) 2> /dev/null && echo SYSCTL
        (echo > /sys/fs/cgroup/memory/cgroup.procs) 2> /dev/null && echo CGROUP
        for pid in /proc/[0-9]*; do echo "process $pid"; done
        exit 0
    """
    said = house.said(script, environmentVariables=[{"name": "MINE", "value": "yes"}])
    for word in ("READ", "KILLED", "SYSCTL", "CGROUP", "vault.key", "trainshed.db", "local"):
        assert word not in said.split(), said
    assert len([line for line in said.splitlines() if line.startswith("process")]) <= 3


def test_image_in_a_directory(house: House) -> None:
    mounts = house.mounts
    house.store.podman("push", "--quiet", LOCAL, f"oci:{mounts}/image:mine")
    subprocess.run(["chmod", "-R", "a+rX", f"{mounts}/image"], check=True)
    assert house.said("echo $COLOUR", "oci:$AZ_BATCHAI_MOUNT_ROOT/image:mine") == "green\n"


@pytest.mark.parametrize("house", ["own user"], indirect=True)
@pytest.mark.parametrize(
    ("image", "more", "words"),
    [
        ("127.0.0.1:9/x/y:1", {}, ["registry cannot be reached", "refused"]),
        ("Not A Name", {}, ["is no name of an image", "ubuntu:22.04"]),
        ("oci:/nowhere/image:1", {}, ["no image in the directory /nowhere/image", "podman push"]),
        ("localhost/no-shell", {}, ["neither bash nor sh"]),
        ("localhost/foreign", {}, ["is for s390x machines", "linux/"]),
        ("x", {"registry": {"serverUrl": "ftp://x"}}, ["'ftp://x', which is no registry"]),
    ],
)
def test_what_cannot_be_started_is_told_with_a_way_out(
    house: House, image: str, more: dict[str, Any], words: list[str]
) -> None:
    expect_failure(house, image, words, **more)


@pytest.mark.parametrize("house", ["own user"], indirect=True)
@pytest.mark.parametrize(
    ("image", "password", "words"),
    [
        ("team/absent:1", Registry.PASSWORD, ["no such image", "manifest"]),
        ("team/other:1", "wrong-password", ["refuses the credentials"]),
        ("team/private@sha256:" + 64 * "0", Registry.PASSWORD, ["no such image", "manifest"]),
    ],
)
def test_what_the_registry_refuses(
    house: House, registry: Registry, image: str, password: str, words: list[str]
) -> None:
    error = expect_failure(house, image, words, registry=signed_in(registry, password))
    assert password not in str(error)


def expect_failure(house: House, image: str, words: list[str], **more: Any) -> dict[str, Any]:
    job, name = house.run("true", image, **more)
    [error] = job.properties["executionInfo"]["errors"]
    assert error["code"] == "FailedStartingContainer", error
    assert {"name": "imageName", "value": image} in error["details"]
    for word in words:
        assert word in error["message"], error
    assert words[0] in house.output(name, "execution.log")
    return dict(error)


def test_nodes_fetch_images_ahead(house: House, registry: Registry) -> None:
    """With the cluster's credentials; a job without any finds the image then."""
    image = {"image": f"{registry.address}/team/ahead:1", **signed_in(registry)}
    credentials = f"--creds={Registry.USER}:{Registry.PASSWORD}"
    house.store.podman("push", "--quiet", "--tls-verify=false", credentials, LOCAL, f"docker://{image['image']}")
    clusters = {"ahead": image, "absent": {**image, "image": f"{registry.address}/team/absent:1"}}
    for name, wanted in clusters.items():
        house.client.clusters.create(
            name,
            {
                "vmSize": "STANDARD_D1",
                "scaleSettings": {"manual": {"targetNodeCount": 1}},
                "userAccountSettings": {"adminUserName": "tester", "adminUserPassword": "only-for-tests-1"},
                "nodeSetup": {"containerImages": [wanted]},
            },
        )
    house.live.wait_for(lambda: house.client.clusters.get("ahead").nodes_in("idle"), "the node")
    there = str(house.client.clusters.get("ahead").id)
    assert house.said("echo $COLOUR", image["image"], cluster=there) == "green\n"
    house.live.wait_for(lambda: house.client.clusters.get("absent").nodes_in("unusable"), "the node that cannot")
    [node] = house.client.clusters.nodes("absent")
    assert node.json["reason"]["code"] == "FailedStartingContainer"
    assert "team/absent:1" in node.json["reason"]["message"]
    for name in clusters:
        shown = house.client.clusters.get(name)
        assert Registry.PASSWORD not in str(shown.properties)
        house.client.clusters.delete(name)


@pytest.mark.parametrize("house", ["own user"], indirect=True)
def test_no_such_command_is_the_jobs_own_failure(house: House) -> None:
    job, name = house.run("no-such-command-here")
    assert job.properties["executionInfo"]["exitCode"] == 127
    assert "no-such-command-here" in house.output(name, "stderr.txt")


@pytest.mark.parametrize("house", ["own user"], indirect=True)
def test_missing_mount(house: House) -> None:
    volumes = {"unmanagedFileSystems": [{"mountCommand": "false", "relativeMountPath": "there"}]}
    job, _ = house.run("true", mountVolumes=volumes)
    [error] = job.properties["executionInfo"]["errors"]
    assert error["code"] == "VolumeMountError"


@pytest.mark.parametrize("house", ["own user"], indirect=True)
def test_out_of_memory_is_named(house: House) -> None:
    job, _ = house.run("tail /dev/zero")
    info = job.properties["executionInfo"]
    assert info["exitCode"] == 137
    assert "Out of memory" in info["errors"][0]["message"]


def test_mpi_ranks_on_two_nodes_share_an_image(house: House) -> None:
    """``mpirun`` is the image's, which has no Python to start the other node's ranks with."""
    beside = Path(sys.executable).parent
    if not (beside / "hydra_pmi_proxy").exists():
        pytest.skip("no MPICH beside the interpreter: pip install mpich")
    mpi = tuple(str(beside / name) for name in ("mpirun", "mpiexec", "hydra_pmi_proxy"))
    house.store.add("localhost/mpi", root_file_system(("bash", *PROGRAMS, *mpi)))
    command = 'echo "rank $PMI_RANK of $PMI_SIZE on $HOSTNAME"; echo told >&2; exit ${CODE:-0}'
    settings = {"commandLine": f"bash -c {shlex.quote(command)}", "processCount": 4}
    said = house.said("", "localhost/mpi", nodes=2, customMpiSettings=settings, customToolkitSettings=None)
    assert sorted(said.splitlines()) == [f"rank {rank} of 4 on c-{1 + rank // 2}" for rank in range(4)]
    failing = {"customMpiSettings": settings, "customToolkitSettings": None}
    job, _ = house.run("", "localhost/mpi", nodes=2, environmentVariables=[{"name": "CODE", "value": "3"}], **failing)
    assert job.properties["executionInfo"]["exitCode"] == 3


def test_a_container_is_warned_before_it_is_preempted(house: House) -> None:
    saved = "$TRAINSHED_CHECKPOINT_DIR/saved"
    name = house.start(
        f"[ ! -e {saved} ] || {{ cat {saved}; exit; }}; "
        f"trap 'cat $TRAINSHED_PREEMPTION_NOTICE > {saved}; exit 9' USR2; echo up; while :; do sleep 0.05; done",
        preemption={"gracePeriod": "PT1M"},
    )
    house.live.wait_for(lambda: house.output(name) == "up\n", "its start")
    house.client.jobs.preempt(name, attempt=1)
    job = house.end(name)
    assert (job.execution_state.value, job.attempt, job.preemptions) == ("succeeded", 2, 1)
    assert '"signal": "SIGUSR2"' in house.output(name)


def test_terminate_leaves_nothing(house: House) -> None:
    name = house.start("(setsid sleep 1000 &) ; sleep 1001 & wait")
    house.live.wait_for(lambda: "master 0 started" in house.output(name, "execution.log"), "the job's start")
    house.client.jobs.terminate(name, wait=False)
    assert house.end(name).execution_state.value == "failed"
    nothing_left(house)


@pytest.mark.parametrize("house", ["own user"], indirect=True)
def test_terminate_while_the_image_is_fetched(house: House) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        name = house.start("true", f"127.0.0.1:{silent.getsockname()[1]}/a:1")
        silent.settimeout(30)
        connection, _ = silent.accept()
        house.client.jobs.terminate(name, wait=False)
        assert house.end(name).properties["executionInfo"]["errors"][0]["code"] == "JobTerminated"
        connection.close()
    assert [pid for pid in house.live.marked() if "podman" in command_of(pid)] == []
    nothing_left(house)


@pytest.mark.parametrize("victim", ["runner", "node"])
def test_killing_who_keeps_the_container_leaves_nothing(house: House, victim: str) -> None:
    mounts = house.mounts
    work = "(setsid sleep 1000 &) ; echo >> $AZ_BATCHAI_MOUNT_ROOT/begun; "
    name = house.start(work + "until [ -e $AZ_BATCHAI_MOUNT_ROOT/go ]; do sleep 0.05; done")
    house.live.wait_for(lambda: (mounts / "begun").exists(), "the job's start")
    job = min(pid for pid in house.live.marked() if "until [ -e" in command_of(pid))
    runner = parent_of(job)
    os.kill(runner if victim == "runner" else parent_of(runner), signal.SIGKILL)
    house.live.wait_for(lambda: (mounts / "begun").read_text() == "\n\n", "the second attempt")
    (mounts / "go").touch()
    assert house.end(name).execution_state.value == "succeeded"
    (mounts / "go").unlink()
    (mounts / "begun").unlink()
    nothing_left(house)
