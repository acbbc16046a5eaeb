"""Volumes through the service: shares and containers mounted for jobs and clusters, by real servers on loopback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.leftovers import look_until_nothing
from tests.support.live_service import LiveService, custom
from tests.support.program import Program
from tests.volumes import servers
from tests.volumes.servers import BlobServer, FileServer
from trainshed.client import Client
from trainshed.engines.local.job_users import hindrance
from trainshed.resources.jobfile import strip_comments
from trainshed.resources.users import UserRange

USERS = UserRange(1900004000, 1900004009)
#: Bytes of the large file that nodes exchange; CI has the full 200 MB.
LARGE = int(os.environ.get("TRAINSHED_TEST_LARGE_MB", "24")) << 20

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.skipif(bool(hindrance(USERS)), reason=f"jobs cannot have users of their own here: {hindrance(USERS)}"),
]

#: Each node writes, says that it has, waits for the other, and compares what that one wrote.
EXCHANGE = """
set -e
me=$((${HOSTNAME##*-} %% 2))
other=$((1 - me))
for volume in %(volumes)s; do
  mine=$AZ_BATCHAI_JOB_MOUNT_ROOT/$volume/of-$me
  mkdir -p $mine
  for number in $(seq %(small)d); do echo "$number of $me" > $mine/small-$number; done
  (cd $mine; sha256sum small-*) > $AZ_BATCHAI_JOB_TEMP/sums
  # Its sum is that of what was written, not of what would be read back.
  [ $me = 1 ] || [ $volume = bfs ] ||
    head -c %(big)d /dev/urandom | tee $mine/big | sha256sum | sed 's/-$/big/' >> $AZ_BATCHAI_JOB_TEMP/sums
  cp $AZ_BATCHAI_JOB_TEMP/sums $mine/../sums-$me.new
  mv $mine/../sums-$me.new $mine/../sums-$me
done
for volume in %(volumes)s; do
  cd $AZ_BATCHAI_JOB_MOUNT_ROOT/$volume
  until [ -s sums-$other ] && (cd of-$other && ls $(cut -c67- ../sums-$other) > /dev/null 2>&1 &&
    { [ ! -e big ] || [ $(stat -c %%s big) = %(big)d ]; } && sha256sum --quiet -c ../sums-$other) 2>&1
  do sleep 0.1; done
done
"""
#: After everything was unmounted and mounted again.
COMPARE = """
set -e
for volume in %(volumes)s; do
  cd $AZ_BATCHAI_JOB_MOUNT_ROOT/$volume
  for node in 0 1; do (cd of-$node; sha256sum --quiet -c ../sums-$node; ls | wc -l); done
  stat -c %%u of-0/small-1
done
df --output=target $AZ_BATCHAI_JOB_MOUNT_ROOT/* | grep -c $AZ_BATCHAI_JOB_MOUNT_ROOT
"""


@dataclass
class Storage:
    """A service with an embedded account, and servers of real ones."""

    live: LiveService
    blob: BlobServer
    file: FileServer
    key: str
    cluster: str

    @property
    def client(self) -> Client:
        return self.live.client

    def run(
        self, name: str, command: str, volumes: dict[str, Any], nodes: int = 1, cluster: str = "", **more: Any
    ) -> tuple[str, str]:
        """How the job ended, and what it wrote to standard output (or why it failed)."""
        properties = custom(command, cluster or self.cluster, nodes, mountVolumes=volumes, **more)
        self.client.jobs.create(name, properties)
        job = self.client.jobs.wait(name, interval=0.1, timeout=100)
        (folder,) = self.live.home.glob(f"clusters/*/mounts/logs/{job.properties['jobOutputDirectoryPathSegment']}")
        if job.execution_state.value != "succeeded":
            told = [path.read_text()[-1000:] for path in folder.glob("stdouterr/std*")]
            return job.execution_state.value, json.dumps([job.properties["executionInfo"]["errors"], *told])
        return "succeeded", (folder / "stdouterr/stdout.txt").read_text()

    def holders(self) -> list[int]:
        """Processes that hold volumes: parents of rclone daemons of this home."""
        found = set()
        for pid in self.live.marked():
            with suppress(OSError):
                if b"rclone\0mount" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.add(int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]))
        return sorted(found)

    def embedded(self) -> dict[str, Any]:
        """A share and a container of the embedded account."""
        credentials = {"accountKey": self.key}
        share = {"accountName": "acct", "azureFileUrl": "https://acct.file.core.windows.net/share"}
        container = {"accountName": "acct", "containerName": "models"}
        return {
            "azureFileShares": [{**share, "relativeMountPath": "afs", "credentials": credentials}],
            "azureBlobFileSystems": [{**container, "relativeMountPath": "bfs", "credentials": credentials}],
        }

    def real(self) -> dict[str, Any]:
        """A share and a container of real servers."""
        share = {"accountName": servers.SMB_USER, "azureFileUrl": "https://x.file.core.windows.net/data"}
        container = {"accountName": servers.BLOB_ACCOUNT, "containerName": "data"}
        file_key, blob_key = {"accountKey": servers.SMB_PASSWORD}, {"accountKey": servers.BLOB_KEY}
        return {
            "azureFileShares": [{**share, "relativeMountPath": "smb", "credentials": file_key}],
            "azureBlobFileSystems": [{**container, "relativeMountPath": "blob", "credentials": blob_key}],
        }


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    """Jobs are strangers here; with two nodes."""
    folder = tmp_path_factory.mktemp("volumes")
    home = folder / "home"
    home.mkdir(mode=0o700)
    for name in ("azurite", "samba"):
        (folder / name).mkdir()
    with ExitStack() as stack:
        blob = stack.enter_context(servers.azurite(folder / "azurite"))
        file = stack.enter_context(servers.samba(folder / "samba"))
        blob.make_container("data")
        endpoints = {servers.SMB_USER: {"file": file.address}, servers.BLOB_ACCOUNT: {"blob": blob.endpoint}}
        (home / "storage-endpoints.json").write_text(json.dumps(endpoints))
        live = LiveService(home, "--isolate-jobs", "always", "--job-users", str(USERS))
        try:
            cluster = live.start().make_cluster(2)
            client = live.client
            client.storage_accounts.create("acct")
            key = client.storage_accounts.keys("acct")[0].get("value")
            yield Storage(live, blob, file, key, cluster)
        finally:
            live.stop()
        left = look_until_nothing(home)
        assert not left, f"the service left {left}"


def test_an_embedded_share_and_container(storage: Storage) -> None:
    command = "cd $AZ_BATCHAI_JOB_MOUNT_ROOT; echo hello > afs/file; mkdir bfs/d; echo x > bfs/d/y; "
    command += "stat -c '%u %a' afs afs/file"
    told = storage.run("embedded", command, storage.embedded())
    uid = str(USERS.user(1).uid)
    assert told == ("succeeded", f"{uid} 700\n{uid} 644\n")
    home = storage.live.home
    assert (home / "storage/acct/files/share/file").read_text() == "hello\n"
    assert (home / "storage/acct/files/share/file").stat().st_uid == 0
    assert (home / "storage/acct/blobs/models/d/y").read_text() == "x\n"
    told = storage.run("again", "cat $AZ_BATCHAI_JOB_MOUNT_ROOT/afs/file", storage.embedded(), nodes=2)
    assert told == ("succeeded", "hello\n")
    # The next job's directories are those of its own volumes.
    assert storage.run("none", "cd $AZ_BATCHAI_JOB_TEMP; ls mounts; df | grep $PWD/", {})[0] == "failed"


def test_two_nodes_exchange_files_and_all_is_there_afterwards(storage: Storage) -> None:
    volumes = {kind: [*storage.real()[kind], *storage.embedded()[kind]] for kind in storage.real()}
    facts = {"volumes": "smb blob afs bfs", "small": 50, "big": LARGE}
    state, why = storage.run(
        "writes", "true", volumes, nodes=2, jobPreparation={"commandLine": EXCHANGE % {**facts, "small": 200}}
    )
    assert state == "succeeded", why
    state, told = storage.run("reads", COMPARE % facts, volumes)
    assert state == "succeeded", told
    uid = str(USERS.user(1).uid)
    assert told.split() == [*["201", "200", uid] * 3, "200", "200", uid, "4"]
    sums = (storage.file.folder / "sums-0").read_text()
    done = subprocess.run(["sha256sum", "--quiet", "-c"], cwd=storage.file.folder / "of-0", input=sums, text=True)
    assert done.returncode == 0
    assert (Path(storage.live.home) / "storage/acct/files/share/of-0/big").stat().st_size == LARGE


def test_a_cluster_s_volumes_stay_and_a_job_s_go(storage: Storage) -> None:
    client, uid = storage.client, str(USERS.user(1).uid)
    volumes = {
        "azureFileShares": [*storage.real()["azureFileShares"], *storage.embedded()["azureFileShares"]],
        "azureBlobFileSystems": storage.real()["azureBlobFileSystems"],
    }
    command = "cd $AZ_BATCHAI_MOUNT_ROOT; for v in smb blob afs; do echo of setup > $v/setup; done"
    task = {"commandLine": command, "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/afs"}
    client.clusters.create(
        "with-volumes",
        {
            "vmSize": "STANDARD_D1",
            "scaleSettings": {"manual": {"targetNodeCount": 1}},
            "userAccountSettings": {"adminUserName": "tester", "adminUserPassword": "only-for-tests-1"},
            "nodeSetup": {"mountVolumes": volumes, "setupTask": task},
        },
    )
    idle = lambda: client.clusters.get("with-volumes").nodes_in("idle") == 1  # noqa: E731
    storage.live.wait_for(idle, "the node", 60)
    cluster = str(client.clusters.get("with-volumes").id)
    look = "cat $AZ_BATCHAI_MOUNT_ROOT/*/setup; cd $AZ_BATCHAI_MOUNT_ROOT; "
    look += "for v in smb blob afs; do echo {0} > $v/{0}; done; "
    look += "df -a --output=target | sort -u | grep -c -e ^$AZ_BATCHAI_MOUNT_ROOT/ -e ^$AZ_BATCHAI_JOB_MOUNT_ROOT/; "
    look += "stat -c %u smb/{0} afs/{0}"
    own = {"azureBlobFileSystems": storage.embedded()["azureBlobFileSystems"]}
    state, told = storage.run("both", look.format("first"), own, cluster=cluster)
    assert (state, told.splitlines()) == ("succeeded", [*["of setup"] * 3, "4", uid, uid])
    state, told = storage.run("cluster-only", look.format("second"), {}, cluster=cluster)
    assert (state, told.splitlines()) == ("succeeded", [*["of setup"] * 3, "3", uid, uid])
    # A node that dies comes again with its volumes, and nothing of it is left meanwhile.
    (pid,) = storage.holders()
    os.kill(pid, signal.SIGKILL)
    storage.live.wait_for(lambda: pid not in storage.holders() and idle() and storage.holders(), "another boot", 60)
    state, told = storage.run("after", look.format("third"), {}, cluster=cluster)
    assert (state, told.splitlines()) == ("succeeded", [*["of setup"] * 3, "3", uid, uid])
    # What was written last is there when the node is gone.
    client.clusters.delete("with-volumes")
    storage.live.wait_for(lambda: not storage.holders(), "the end of what held the volumes", 60)
    for name in ("setup", "first", "second", "third"):
        assert (storage.file.folder / name).exists()
        assert (storage.live.home / "storage/acct/files/share" / name).exists()
        assert storage.blob.rclone("cat", f"blob:data/{name}")


def test_a_cluster_whose_volume_cannot_be_mounted_says_why(storage: Storage) -> None:
    client = storage.client
    wrong = {**storage.real()["azureFileShares"][0], "credentials": {"accountKey": "not the password"}}
    client.clusters.create(
        "wrong-key",
        {
            "vmSize": "STANDARD_D1",
            "scaleSettings": {"manual": {"targetNodeCount": 1}},
            "userAccountSettings": {"adminUserName": "tester", "adminUserPassword": "only-for-tests-1"},
            "nodeSetup": {"mountVolumes": {"azureFileShares": [wrong]}},
        },
    )
    storage.live.wait_for(lambda: client.clusters.get("wrong-key").nodes_in("unusable") == 1, "the refusal", 60)
    told = json.dumps(client.clusters.get("wrong-key").json)
    assert "AZFMountError" in told and "rclone cannot list it" in told and "not the password" not in told
    client.clusters.delete("wrong-key")


#: Recipes whose programs are one Python script, here without their images (``test_container_recipes`` has all 17 with
#: them): each with its script on the share.
RECIPES = {
    "CNTK-GPU-Python": "cntk/ConvNet_MNIST.py",
    "TensorFlow-GPU-Distributed": "tensorflow/mnist_replica.py",
}
FOLDER = Path(__file__).resolve().parents[3] / "shared" / "reference" / "recipes"
#: In place of the recipes' scripts, whose frameworks and images are not to be had: it reads and writes where they do.
STAND_IN = """
import os, pathlib, sys
mounts = pathlib.Path(os.environ["AZ_BATCHAI_JOB_MOUNT_ROOT"])
assert pathlib.Path(__file__).is_relative_to(mounts / "scripts"), __file__
if (mounts / "data").exists():
    print((mounts / "data/mnist_data/digits").read_text())
for name in ("AZ_BATCHAI_OUTPUT_MODEL", "AZ_BATCHAI_OUTPUT_TENSORBOARD"):
    if name in os.environ:
        pathlib.Path(os.environ[name], "written").write_text(name)
print("ran", os.path.basename(__file__))
"""


@pytest.mark.skipif(not FOLDER.is_dir(), reason=f"the original's recipes are not at {FOLDER}")
@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_run_from_their_own_job_files(storage: Storage, tmp_path: Path, recipe: str) -> None:
    account = storage.live.home / "storage/acct"
    for path, text in ((f"files/scripts/{RECIPES[recipe]}", STAND_IN), ("blobs/data/mnist_data/digits", "the data")):
        (account / path).parent.mkdir(parents=True, exist_ok=True)
        (account / path).write_text(text)
    job = json.loads(strip_comments((FOLDER / f"{recipe}.job.json").read_text(encoding="utf-8-sig")))
    del job["properties"]["containerSettings"]
    (tmp_path / "job.json").write_text(json.dumps(job))
    program = Program(storage.live.home, tmp_path)
    name = recipe.lower()
    key = ("--storage-account-name", "acct", "--storage-account-key", storage.key)
    program.ok("job", "create", "-n", name, "-c", "c", "-f", "job.json", *key)
    done = storage.client.jobs.wait(name, interval=0.1, timeout=100)
    assert done.execution_state.value == "succeeded", done.json
    written = account / "files/logs" / done.properties["jobOutputDirectoryPathSegment"]
    printed = "".join(path.read_text() for path in written.glob("stdouterr/stdout*.txt"))
    assert f"ran {RECIPES[recipe].rpartition('/')[2]}" in printed
    assert ("the data" in printed) == ("azureBlobFileSystems" in job["properties"]["mountVolumes"])
    for output in job["properties"].get("outputDirectories", []):
        folder = written / "outputs" / output.get("pathSuffix", "")
        assert (folder / "written").read_text() == f"AZ_BATCHAI_OUTPUT_{output['id']}"
