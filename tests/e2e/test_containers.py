"""Jobs in containers, through the service: images that are made here, and a registry of our own."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from tests.support.containers import Store, hindrance, root_file_system
from tests.support.live_service import LiveService, custom
from trainshed.engines.local.job_users import hindrance as no_strangers
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
        self._numbers = count()

    def start(self, command: str, image: str = LOCAL, *, nodes: int = 1, **more: Any) -> str:
        """The name of a job in a container."""
        name = f"job-{next(self._numbers)}"
        settings = {"imageSourceRegistry": {"image": image, **more.pop("registry", {})}}
        settings |= more.pop("settings", {})
        properties = custom(command, self.cluster, nodes, containerSettings=settings, **more)
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
    return made


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
