"""Volumes of 2026-11-01 through the service: S3, SFTP, a directory of the host and git, on two nodes for strangers."""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.test_volumes import COMPARE, EXCHANGE, LARGE, USERS
from tests.support.leftovers import look_until_nothing
from tests.support.live_service import LiveService, custom
from tests.volumes import newer_servers
from tests.volumes.newer_servers import S3_ID, S3_KEY, GitServer, S3Server, SftpServer
from trainshed.engines.local.job_users import hindrance

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.skipif(bool(hindrance(USERS)), reason=f"jobs cannot have users of their own here: {hindrance(USERS)}"),
]
#: A user of every machine, who is nobody of ours.
OWNER = "daemon"


@dataclass
class Newer:
    """A service, and servers of what its jobs mount."""

    live: LiveService
    s3: S3Server
    sftp: SftpServer
    git: GitServer
    cluster: str
    #: Directories of the host: one that belongs to OWNER and may be written, one that may be read.
    scratch: Path
    data: Path

    def run(self, name: str, command: str, volumes: dict[str, Any], nodes: int = 1, **more: Any) -> tuple[str, str]:
        """How the job ended, and what it wrote to standard output (or why it failed)."""
        client = self.live.client
        client.jobs.create(name, custom(command, self.cluster, nodes, mountVolumes=volumes, **more))
        job = client.jobs.wait(name, interval=0.1, timeout=150)
        if job.execution_state.value != "succeeded":
            return job.execution_state.value, json.dumps(job.properties["executionInfo"]["errors"])
        return "succeeded", (self.folder_of(job.properties) / "stdouterr/stdout.txt").read_text()

    def folder_of(self, properties: Any) -> Path:
        """Where the job's logs are."""
        (folder,) = self.live.home.glob(f"clusters/*/mounts/logs/{properties['jobOutputDirectoryPathSegment']}")
        return folder

    def volumes(self) -> dict[str, Any]:
        """One of each kind that can be written."""
        key = {"accessKeyId": S3_ID, "secretAccessKey": S3_KEY}
        bucket = {"bucket": "data", "prefix": "jobs", "endpoint": self.s3.endpoint, "credentials": key}
        directory = {
            "host": "127.0.0.1", "port": self.sftp.port, "user": "root", "path": str(self.sftp.folder),
            "hostKey": self.sftp.host_key, "credentials": {"privateKey": self.sftp.private_key},
        }  # fmt: skip
        return {
            "s3Buckets": [{**bucket, "relativeMountPath": "s3"}],
            "sftpDirectories": [{**directory, "relativeMountPath": "sftp"}],
            "hostDirectories": [{"path": str(self.scratch), "relativeMountPath": "host"}],
        }


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Newer]:
    """Jobs are strangers here; with two nodes."""
    folder = tmp_path_factory.mktemp("newer")
    for name in ("home", "s3", "sftp", "git", "scratch", "data"):
        (folder / name).mkdir(mode=0o700)
    home, scratch, data = folder / "home", folder / "scratch", folder / "data"
    owner = pwd.getpwnam(OWNER)
    os.chown(scratch, owner.pw_uid, owner.pw_gid)
    data.chmod(0o755)
    for name, mode in (("open", 0o644), ("closed", 0o600)):
        (data / name).write_text(f"{name}\n")
        (data / name).chmod(mode)
    allowed = {str(scratch): {"readOnly": False, "owner": OWNER}, str(data): {}}
    (home / "host-directories.json").write_text(json.dumps(allowed))
    with ExitStack() as stack:
        s3 = stack.enter_context(newer_servers.moto(folder / "s3"))
        sftp = stack.enter_context(newer_servers.sshd(folder / "sftp"))
        git = stack.enter_context(newer_servers.git_daemon(folder / "git"))
        s3.make_bucket("data")
        live = LiveService(home, "--isolate-jobs", "always", "--job-users", str(USERS))
        try:
            cluster = live.start().make_cluster(2)
            yield Newer(live, s3, sftp, git, cluster, scratch, data)
        finally:
            live.stop()
        left = look_until_nothing(home)
        assert not left, f"the service left {left}"


def test_two_nodes_exchange_files_and_all_is_there_afterwards(newer: Newer) -> None:
    facts = {"volumes": "s3 sftp host", "small": 200, "big": LARGE}
    volumes = newer.volumes()
    told = newer.run("writes", "true", volumes, nodes=2, jobPreparation={"commandLine": EXCHANGE % facts})
    assert told[0] == "succeeded", told
    state, told_by_compare = newer.run("reads", COMPARE % facts, volumes)
    uid = str(USERS.user(1).uid)
    assert (state, told_by_compare.split()) == ("succeeded", ["201", "200", uid] * 3 + ["3"]), told_by_compare
    assert newer.s3.rclone("size", "--json", "s3:data/jobs/of-0").startswith('{"count":20')
    assert (newer.sftp.folder / "of-0/big").stat().st_size == LARGE
    # On the machine they are the user's whom the administrator named.
    written = (newer.scratch / "of-1/small-1").stat()
    assert (written.st_uid, written.st_gid) == (pwd.getpwnam(OWNER).pw_uid, pwd.getpwnam(OWNER).pw_gid)


@pytest.mark.parametrize("volume", ["s3", "sftp", "host"])
def test_outputs_and_logs_on_them_are_read_by_the_service(newer: Newer, volume: str) -> None:
    client, prefix = newer.live.client, f"$AZ_BATCHAI_JOB_MOUNT_ROOT/{volume}/outputs"
    outputs = [{"id": "MODEL", "pathPrefix": prefix}]
    command = "mkdir -p $AZ_BATCHAI_OUTPUT_MODEL/deep; printf 0123456789 > $AZ_BATCHAI_OUTPUT_MODEL/deep/m; echo said"
    job = custom(command, newer.cluster, 1, mountVolumes=newer.volumes(), outputDirectories=outputs)
    name = f"outputs-{volume}"
    client.jobs.create(name, {**job, "stdOutErrPathPrefix": prefix})
    ended = client.jobs.wait(name, interval=0.1, timeout=100)
    assert ended.execution_state.value == "succeeded", ended.properties["executionInfo"]
    (found,) = client.jobs.output_files(name, "MODEL", directory="deep")
    assert (found.name, found.size) == ("m", 10) and found.download_url
    answer = httpx.get(found.download_url, headers={"Range": "bytes=3-5"})
    assert (answer.status_code, answer.content) == (206, b"345")
    logs = {file.name: file.download_url for file in client.jobs.output_files(name, "stdouterr")}
    assert httpx.get(str(logs["stdout.txt"])).text == "said\n"


def test_what_the_administrator_lets_be_read(newer: Newer) -> None:
    volumes = {"hostDirectories": [{"path": str(newer.data), "relativeMountPath": "d"}]}
    command = "cd $AZ_BATCHAI_JOB_MOUNT_ROOT/d && cat open && ! cat closed && ! touch new && stat -c %u open"
    assert newer.run("host", command, volumes) == ("succeeded", "open\n0\n")
    volumes["hostDirectories"][0]["path"] = "/etc"
    state, errors = newer.run("etc", "true", volumes)
    assert state == "failed" and "VolumeMountError" in errors and "the administrator does not allow it" in errors


def test_a_checkout_belongs_to_the_job_and_its_commit_is_told(newer: Newer) -> None:
    commit = newer.git.make("code", {"train.sh": "echo trained\n"})
    volumes = {"gitRepositories": [{"repositoryUrl": f"{newer.git.url}/code", "relativeMountPath": "code"}]}
    command = "cd $AZ_BATCHAI_JOB_MOUNT_ROOT/code && bash train.sh && stat -c %u train.sh && ! touch new"
    assert newer.run("git", command, volumes) == ("succeeded", f"trained\n{USERS.user(1).uid}\n")
    properties = newer.live.client.jobs.get("git").properties
    assert f"is at commit {commit}" in (newer.folder_of(properties) / "stdouterr/execution.log").read_text()


def test_credentials_never_come_back(newer: Newer) -> None:
    client = newer.live.client
    client.jobs.create("secret", custom("true", newer.cluster, 1, mountVolumes=newer.volumes()))
    client.jobs.wait("secret", interval=0.1, timeout=60)
    shown = client.jobs.get("secret").properties
    (bucket,) = shown["mountVolumes"]["s3Buckets"]
    assert bucket["credentials"] == {"accessKeyId": S3_ID}
    assert shown["mountVolumes"]["sftpDirectories"][0]["credentials"] == {}
    for path in (path for path in newer.live.home.rglob("*") if path.is_file()):
        content = path.read_bytes()
        assert S3_KEY.encode() not in content and b"OPENSSH PRIVATE" not in content, path
