"""File servers on a real service: made, mounted by two clusters, killed meanwhile, read, kept while used, gone."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.leftovers import commands, look_until_nothing
from tests.support.live_service import LiveService, custom
from tests.support.machine import needs_namespaces
from tests.support.services import running
from trainshed.client import ServiceError
from trainshed.engines.local.fileserver import nfs
from trainshed.engines.local.job_users import hindrance
from trainshed.resources.lifecycle import JobState
from trainshed.resources.users import DEFAULT_RANGE, UserRange
from trainshed.volumes.libnfs import available

pytestmark = [
    needs_namespaces,
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(bool(nfs.why_not()), reason=f"no file servers here: {nfs.why_not()}"),
    pytest.mark.skipif(not available(), reason="libnfs is not installed: apt-get install libnfs13"),
]

SERVER = {
    "vmSize": "STANDARD_D1",
    "sshConfiguration": {"userAccountSettings": {"adminUserName": "demo", "adminUserPassword": "only-for-tests-1"}},
    "dataDisks": {"diskSizeInGB": 1, "diskCount": 2, "storageAccountType": "Standard_LRS"},
}
#: Writes a line and a file every hundredth of a second until it is told to end.
WRITER = """
cd $AZ_BATCHAI_MOUNT_ROOT/nfs && mkdir -p out && n=0
until [ -e go ]; do echo $n >> out/log; echo $n > out/n$n; n=$((n+1)); sleep 0.01; done
echo $n > out/total; cp out/total out/log $AZ_BATCHAI_OUTPUT_OUT; df -PT . | tail -1
"""
READER = """
cd $AZ_BATCHAI_MOUNT_ROOT/shared/out
total=$(cat total); seq 0 $((total-1)) | cmp - log || exit 3
for n in $(seq 0 $((total-1))); do [ "$(cat n$n)" = $n ] || exit 4; done; echo all $total there
touch mine 2>&1 || echo read-only
"""


@pytest.fixture
def live(tmp_path: Path) -> Iterator[LiveService]:
    with running(tmp_path / "home") as service:
        yield service


def test_two_clusters_share_one_and_its_server_is_killed_meanwhile(live: LiveService) -> None:
    client = live.client
    client.workspaces.create("default", location="local")
    client.experiments.create("default")
    server = client.file_servers.create("nfs", SERVER)
    mounted = {"fileServer": {"id": server.id}}
    writers = _cluster(live, "writers", {**mounted, "relativeMountPath": "nfs", "mountOptions": "rw"})
    readers = _cluster(live, "readers", {**mounted, "relativeMountPath": "shared", "mountOptions": "ro"})

    out = {"id": "OUT", "pathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/nfs"}
    client.jobs.create("writer", custom(WRITER, writers, outputDirectories=[out]))
    home = live.home
    live.wait_for(lambda: client.jobs.get("writer").execution_state is JobState.RUNNING, "the writer")
    for _ in range(3):
        former = live.wait_for(lambda: _servers(home), "an NFS server")
        for pid in former:
            os.kill(pid, signal.SIGKILL)
        live.wait_for(lambda old=former: set(_servers(home)) - set(old), "another NFS server")
    with pytest.raises(ServiceError, match=r"mounted by cluster .*ers, cluster .*ers") as refusal:
        client.file_servers.delete("nfs")
    assert refusal.value.code == "FileServerInUse"
    assert client.jobs.get("writer").execution_state is JobState.RUNNING

    # A job's own volume ends the writer; it is gone when that job has ended.
    own = {"fileServers": [{**mounted, "relativeMountPath": "own"}]}
    look = 'touch "$AZ_BATCHAI_JOB_MOUNT_ROOT/own/go"; df --output=fstype "$AZ_BATCHAI_JOB_MOUNT_ROOT/own"'
    assert _end_of(live, "go", custom(look, readers, mountVolumes=own)) == ("succeeded", "Type\nfuse.nfs\n")
    state, told = _end_of(live, "writer")
    assert state == "succeeded" and " fuse.nfs " in told
    # Two disks of 1 GB are one of 2 GB.
    assert 1.8 * 2**20 < int(told.split()[2]) <= 2**21
    state, told = _end_of(live, "reader", custom(READER, readers))
    assert state == "succeeded" and "there" in told and "read-only" in told

    names = {file.name for file in client.jobs.output_files("writer", "OUT")}
    assert names == {"log", "total"}
    client.clusters.delete("readers")
    assert {file.name for file in client.jobs.output_files("writer", "OUT")} == names, "also without the node"
    client.clusters.delete("writers")
    client.file_servers.delete("nfs")
    live.wait_for(lambda: not list((home / "fileservers").iterdir()), "its data's end")
    assert not _servers(home)


@pytest.mark.skipif(bool(hindrance(UserRange.parse(DEFAULT_RANGE))), reason="jobs cannot have users of their own here")
def test_jobs_with_a_user_of_their_own_own_what_is_on_it(tmp_path: Path) -> None:
    live = LiveService(tmp_path / "home", "--isolate-jobs", "always")
    try:
        client = live.start().client
        client.workspaces.create("default", location="local")
        client.experiments.create("default")
        volume = {"fileServer": {"id": client.file_servers.create("nfs", SERVER).id}, "relativeMountPath": "nfs"}
        cluster = _cluster(live, "c", volume)
        look = (
            "cd $AZ_BATCHAI_MOUNT_ROOT/nfs && touch mine && cat mine && mkdir d && stat -c %u mine d | sort -u && id -u"
        )
        state, told = _end_of(live, "look", custom(look, cluster))
        assert state == "succeeded", told
        owner, own = told.split()
        assert owner == own and int(own) >= 1_900_000_000
        state, told = _end_of(live, "again", custom("rmdir $AZ_BATCHAI_MOUNT_ROOT/nfs/d && echo gone", cluster))
        assert told == "gone\n"
    finally:
        live.stop()
    assert not look_until_nothing(live.home)


def _cluster(live: LiveService, name: str, volume: dict[str, Any]) -> str:
    client = live.client
    client.clusters.create(
        name,
        {
            "vmSize": "STANDARD_D1",
            "scaleSettings": {"manual": {"targetNodeCount": 1}},
            "userAccountSettings": {"adminUserName": "tester", "adminUserPassword": "only-for-tests-1"},
            "nodeSetup": {"mountVolumes": {"fileServers": [volume]}},
        },
    )
    live.wait_for(lambda: client.clusters.get(name).nodes_in("idle") == 1, f"the node of {name}")
    return str(client.clusters.get(name).id)


def _servers(home: Path) -> list[int]:
    return [pid for pid, command in commands().items() if "ganesha.nfsd" in command and str(home) in command]


def _end_of(live: LiveService, job: str, properties: dict[str, Any] | None = None) -> tuple[str, str]:
    """How the job ended, and its standard output."""
    client = live.client
    if properties is not None:
        client.jobs.create(job, properties)
    ended = live.wait_for(lambda: (found := client.jobs.get(job)).final and found, f"the end of {job}")
    output = b"".join(client.jobs.stream_log(job, follow=False)).decode()
    return str(ended.execution_state.value), output or str(ended.errors)
