"""S3, SFTP, git and directories of the host, for real jobs and with real servers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.runner.harness import Runner, run, stdouterr, wait_for
from tests.support.machine import needs_namespaces
from tests.volumes import newer_servers
from tests.volumes.newer_servers import S3_ID, S3_KEY, GitServer, Meter, S3Server, SftpServer, git
from tests.volumes.servers import BlobServer
from tests.volumes.test_managed import BLOB_KEY, blobs, command_lines, spec_of, text_of, until_gone
from trainshed.volumes import node_cache

S3_PRIVATE = {"/mountVolumes/s3Buckets/0/credentials/secretAccessKey": S3_KEY}
#: Says where execution.log has what the volume's driver told.
LOG = "execution.log"


pytestmark = [pytest.mark.slow, needs_namespaces]


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A moto server."""
    with newer_servers.moto(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="module")
def sftp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SftpServer]:
    """An sshd."""
    with newer_servers.sshd(tmp_path_factory.mktemp("sftp")) as server:
        yield server


@pytest.fixture(scope="module")
def git_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitServer]:
    """A git daemon."""
    with newer_servers.git_daemon(tmp_path_factory.mktemp("git")) as server:
        yield server


@pytest.fixture(autouse=True)
def _nothing_is_left(tmp_path: Path) -> Iterator[None]:
    yield
    until_gone(tmp_path)


def bucket(server: S3Server, name: str, **more: Any) -> dict[str, Any]:
    entry = {"bucket": name, "endpoint": server.endpoint, "credentials": {"accessKeyId": S3_ID}}
    return {"s3Buckets": [{**entry, "relativeMountPath": "v", "readOnly": False, **more}]}


def directory(server: SftpServer, path: str = "", **more: Any) -> dict[str, Any]:
    entry = {"host": "127.0.0.1", "port": server.port, "user": "root", "path": f"{server.folder}/{path}".rstrip("/")}
    keys = {"hostKey": server.host_key, "credentials": {}}
    return {"sftpDirectories": [{**entry, **keys, "relativeMountPath": "v", "readOnly": False, **more}]}


def private(server: SftpServer) -> dict[str, str]:
    return {"/mountVolumes/sftpDirectories/0/credentials/privateKey": server.private_key}


def host(path: Path | str, *allowed: dict[str, Any], **more: Any) -> dict[str, Any]:
    entries = [{"read_only": True, "owner": "", **entry} for entry in allowed]
    return {"hostDirectories": [{"path": str(path), "relativeMountPath": "v", "allowed": entries, **more}]}


def repository(server: GitServer, name: str, **more: Any) -> dict[str, Any]:
    return {"gitRepositories": [{"repositoryUrl": f"{server.url}/{name}", "relativeMountPath": "v", **more}]}


def said(root: Path) -> str:
    """What the last job wrote to standard output."""
    return _taken(stdouterr(root) / "stdout.txt")


def log_of(root: Path) -> str:
    """The last job's."""
    return _taken(stdouterr(root) / LOG)


def _taken(path: Path) -> str:
    text = path.read_text()
    path.unlink()
    return text


# S3 -----------------------------------------------------------------------------------------------------------------


def test_a_part_of_a_bucket(tmp_path: Path, s3: S3Server) -> None:
    s3.make_bucket("data")
    command = "mkdir -p a/empty && echo x > a/file && df . | tail -1 | sed 's/.* //'"
    outcome = run(spec_of(tmp_path, command, bucket(s3, "data", prefix="deep/er/")), private=S3_PRIVATE)
    assert outcome.result == "succeeded", outcome
    assert s3.rclone("cat", "s3:data/deep/er/a/file") == "x\n"
    assert said(tmp_path).endswith("/mounts/v\n")
    assert "mounting S3 bucket data/deep/er at v" in log_of(tmp_path)
    # The empty directory is there for the next job too.
    command = "rmdir a/empty && ls a"
    assert run(spec_of(tmp_path, command, bucket(s3, "data", prefix="deep/er")), private=S3_PRIVATE).exit_code == 0
    assert said(tmp_path) == "file\n"


def test_a_bucket_without_credentials_and_for_reading_only(tmp_path: Path, s3: S3Server) -> None:
    s3.make_bucket("public")
    s3.rclone("touch", "s3:public/there")
    volumes = bucket(s3, "public", credentials=None, readOnly=True)
    outcome = run(spec_of(tmp_path, "ls && touch new", volumes))
    assert outcome.exit_code == 1 and said(tmp_path) == "there\n"
    assert "Read-only file system" in (stdouterr(tmp_path) / "stderr.txt").read_text()


@pytest.mark.parametrize(("name", "key", "told"), [("none-such", S3_KEY, "NoSuchBucket"), ("data", "", "secretAccess")])
def test_buckets_that_cannot_be_had(tmp_path: Path, s3: S3Server, name: str, key: str, told: str) -> None:
    text = text_of(run(spec_of(tmp_path, "true", bucket(s3, name)), private=dict.fromkeys(S3_PRIVATE, key)))
    assert text.startswith(f"VolumeMountError: The S3 bucket {name} cannot be used at v on node node-0"), text
    assert told in text or "not found" in text, text


def test_the_access_key_is_nowhere_to_be_seen(tmp_path: Path, s3: S3Server) -> None:
    s3.make_bucket("data")
    command = f"echo > {tmp_path}/ready; until [ -e {tmp_path}/done ]; do sleep 0.01; done"
    with Runner(spec_of(tmp_path, command, bucket(s3, "data")), private=S3_PRIVATE) as runner:
        wait_for(tmp_path / "ready")
        assert [words for words in command_lines().values() if S3_KEY.encode() in words] == []
        (tmp_path / "done").touch()
        assert runner.outcome().result == "succeeded"
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or S3_KEY.encode() not in path.read_bytes(), path


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["s3", "sftp"])
def test_what_was_closed_is_there_whoever_is_killed(tmp_path: Path, kind: str, s3: S3Server, sftp: SftpServer) -> None:
    if kind == "s3":
        s3.make_bucket("killed")
        volumes, given = bucket(s3, "killed"), S3_PRIVATE
    else:
        (sftp.folder / "killed").mkdir()
        volumes, given = directory(sftp, "killed"), private(sftp)
    write = "head -c 20000000 /dev/zero > {0} && mkdir -p d && echo closed > d/{0} && exec 3>half && echo half >&3 && "
    outcome = run(spec_of(tmp_path, write.format("job") + "kill -9 $$", volumes), private=given)
    assert outcome.exit_code == 137, outcome
    command = write.format("runner") + f"echo yes > {tmp_path}/written && sleep 1000"
    with Runner(spec_of(tmp_path, command, volumes), private=given) as runner:
        wait_for(tmp_path / "written")
        os.kill(runner.pid, signal.SIGKILL)
        runner.wait_exit()
    until_gone(tmp_path)
    outcome = run(spec_of(tmp_path, "stat -c '%n %s' job runner d/job d/runner", volumes), private=given)
    assert said(tmp_path) == "job 20000000\nrunner 20000000\nd/job 7\nd/runner 7\n", outcome
    if kind == "s3":
        assert "20000000 runner\n" in s3.rclone("ls", "s3:killed")
    else:
        assert (sftp.folder / "killed/runner").stat().st_size == 20000000


# SFTP ---------------------------------------------------------------------------------------------------------------


def test_a_directory_by_sftp(tmp_path: Path, sftp: SftpServer) -> None:
    (sftp.folder / "some").mkdir()
    (sftp.folder / "some/there").write_text("before\n")
    command = "cat there && mkdir d && echo after > d/new && mv there gone"
    outcome = run(spec_of(tmp_path, command, directory(sftp, "some")), private=private(sftp))
    assert outcome.result == "succeeded", outcome
    assert said(tmp_path) == "before\n" and (sftp.folder / "some/d/new").read_text() == "after\n"
    assert (sftp.folder / "some/gone").exists() and not (sftp.folder / "some/there").exists()


def test_servers_must_prove_who_they_are(tmp_path: Path, sftp: SftpServer) -> None:
    other = (sftp.folder.parent / "user.pub").read_text().strip()
    text = text_of(run(spec_of(tmp_path, "true", directory(sftp, hostKey=other)), private=private(sftp)))
    assert "key mismatch" in text and text.startswith("VolumeMountError: The SFTP directory 127.0.0.1:"), text
    # Another of its keys is as good; and nobody asks where that is wished.
    rsa = (sftp.folder.parent / "other.pub").read_text().strip()
    for changed in ({"hostKey": rsa}, {"hostKey": None, "skipHostKeyCheck": True}):
        outcome = run(spec_of(tmp_path, "true", directory(sftp, **changed)), private=private(sftp))
        assert outcome.result == "succeeded", outcome


@pytest.mark.parametrize(
    ("path", "secret", "told"), [("none", "privateKey", "not found"), ("", "password", "handshake failed")]
)
def test_sftp_that_cannot_be_had(tmp_path: Path, sftp: SftpServer, path: str, secret: str, told: str) -> None:
    value = sftp.private_key if secret == "privateKey" else "hunter2-for-tests"
    given = {f"/mountVolumes/sftpDirectories/0/credentials/{secret}": value}
    text = text_of(run(spec_of(tmp_path, "true", directory(sftp, path)), private=given))
    assert told in text and value not in text, text


def test_sftp_by_a_password(tmp_path: Path) -> None:
    password = "hunter2, for tests"
    with newer_servers.sftp_by_password(tmp_path, "alice", password) as (port, key):
        entry = {"host": "127.0.0.1", "port": port, "user": "alice", "path": ".", "hostKey": key, "credentials": {}}
        volumes = {"sftpDirectories": [{**entry, "relativeMountPath": "v"}]}
        given = {"/mountVolumes/sftpDirectories/0/credentials/password": password}
        for _ in range(2):
            outcome = run(spec_of(tmp_path, "echo x >> file", volumes), private=given)
            assert outcome.result == "succeeded", outcome
    assert (tmp_path / "files/file").read_text() == "x\nx\n"
    # What could not be written would be found again: rclone's own name for the remote is the same each time.
    assert len(list((tmp_path / "volumes").glob("*/vfs/*"))) == 1


# What is only read is read once -------------------------------------------------------------------------------------

_BIG = 3_000_000


def test_the_second_job_reads_s3_from_the_nodes_cache(tmp_path: Path, s3: S3Server) -> None:
    s3.make_bucket("cached")
    (tmp_path / "big").write_bytes(os.urandom(_BIG))
    s3.rclone("copyto", str(tmp_path / "big"), "s3:cached/big")
    volumes = bucket(s3, "cached", readOnly=True, cache={"maxSizeInGB": 1})
    run(spec_of(tmp_path, "sha256sum big", volumes), private=S3_PRIVATE)
    reads = s3.reads_of("cached/big")
    first = said(tmp_path)
    assert reads >= 1
    outcome = run(spec_of(tmp_path, "sha256sum big && touch x", volumes), private=S3_PRIVATE)
    assert outcome.exit_code == 1
    assert s3.reads_of("cached/big") == reads and said(tmp_path) == first
    # Content of the same size is told apart by its checksum.
    (tmp_path / "big").write_bytes(os.urandom(_BIG))
    s3.rclone("copyto", str(tmp_path / "big"), "s3:cached/big")
    expected = subprocess.run(["sha256sum", tmp_path / "big"], capture_output=True, text=True).stdout.split()[0]
    run(spec_of(tmp_path, "sha256sum big", volumes), private=S3_PRIVATE)
    assert said(tmp_path).split()[0] == expected and s3.reads_of("cached/big") > reads
    # Who comes with other credentials has another cache.
    reads = s3.reads_of("cached/big")
    run(spec_of(tmp_path, "sha256sum big", volumes), private=dict.fromkeys(S3_PRIVATE, "another"))
    assert said(tmp_path).split()[0] == expected and s3.reads_of("cached/big") > reads


@pytest.fixture
def metered(sftp: SftpServer) -> Iterator[tuple[SftpServer, Meter]]:
    """The sshd, and what counts the bytes that it sends."""
    meter = Meter(sftp.port)
    yield replace(sftp, port=meter.port), meter
    meter.close()


def test_the_second_job_reads_sftp_from_the_nodes_cache(tmp_path: Path, metered: tuple[SftpServer, Meter]) -> None:
    server, meter = metered
    (server.folder / "cached").mkdir()
    (server.folder / "cached/once").write_bytes(os.urandom(_BIG))
    volumes = directory(server, "cached", readOnly=True, cache={"maxSizeInGB": 1})
    command = f"sha256sum once; echo yes > {tmp_path}/read; until [ -e {tmp_path}/end ]; do sleep 0.01; done"
    with Runner(spec_of(tmp_path, command, volumes), private=private(server)) as runner:
        wait_for(tmp_path / "read")
        assert meter.bytes >= _BIG
        # Another mount on the same node meanwhile: two must not share a cache.
        other = tmp_path / "other"
        other.mkdir()
        spec = spec_of(other, "sha256sum once", volumes)
        spec = replace(spec, directories=replace(spec.directories, volumes=str(tmp_path / "volumes")))
        assert run(spec, private=private(server)).result == "succeeded"
        assert "it is read without one" in log_of(other)
        (tmp_path / "end").touch()
        assert runner.outcome().result == "succeeded"
    until_gone(tmp_path)
    before, expected = meter.bytes, said(other)
    assert before >= 2 * _BIG and said(tmp_path) == expected
    assert run(spec_of(tmp_path, "sha256sum once", volumes), private=private(server)).result == "succeeded"
    assert meter.bytes - before < 100_000
    assert said(tmp_path) == expected


def test_a_cached_container_is_read_only_and_asked_for_content_once(tmp_path: Path, blob_server: BlobServer) -> None:
    blob_server.make_container("cached")
    (tmp_path / "big").write_bytes(os.urandom(_BIG))
    blob_server.rclone("copyto", str(tmp_path / "big"), "blob:cached/big")
    meter = Meter(blob_server.port)
    try:
        endpoint = blob_server.endpoint.replace(str(blob_server.port), str(meter.port))
        volumes = blobs(replace(blob_server, endpoint=endpoint), "cached", cache={"maxSizeInGB": 1})
        for _ in range(2):
            before = meter.bytes
            outcome = run(spec_of(tmp_path, "sha256sum big && touch new", volumes), private=BLOB_KEY)
            assert outcome.exit_code == 1, outcome
        assert 0 < meter.bytes - before < 100_000 and before >= _BIG
    finally:
        meter.close()


@pytest.mark.slow
def test_a_cache_does_not_outgrow_its_size(tmp_path: Path, s3: S3Server) -> None:
    s3.make_bucket("large")
    for number in range(4):
        (tmp_path / "part").write_bytes(os.urandom(4 << 20))
        s3.rclone("copyto", str(tmp_path / "part"), f"s3:large/{number}")
    volumes = bucket(s3, "large", readOnly=True, cache={"maxSizeInGB": 9 / 1024})
    cached = f"du -sm {tmp_path}/volumes/shared/reads | cut -f1"
    command = f"cat 0 1 2 3 | wc -c; until [ $({cached}) -le 9 ]; do sleep 0.2; done; {cached}"
    outcome = run(spec_of(tmp_path, command, volumes), private=S3_PRIVATE)
    assert outcome.result == "succeeded", outcome
    assert said(tmp_path).split()[0] == str(16 << 20)


def test_what_nobody_used_for_long_is_removed_and_what_is_used_stays(tmp_path: Path) -> None:
    for name in ("old", "used", "fresh"):
        (tmp_path / name / "inside").mkdir(parents=True)
    held = node_cache.take(tmp_path / "used", alone=False)
    assert held is not None
    for name in ("old", "used"):
        os.utime(tmp_path / name, (0, 0))
    assert node_cache.take(tmp_path / "used", alone=True) is None
    again = node_cache.take(tmp_path / "used", alone=False)
    assert again is not None
    os.close(again)
    os.utime(tmp_path / "used", (0, 0))
    node_cache.remove_unused(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fresh", "used"]
    os.close(held)
    os.utime(tmp_path / "used", (0, 0))
    node_cache.remove_unused(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["fresh"]
    assert node_cache.take(tmp_path / "old", alone=False) is None


# Git ----------------------------------------------------------------------------------------------------------------


def test_the_files_of_a_branch_of_a_tag_and_of_a_commit(tmp_path: Path, git_server: GitServer) -> None:
    first = git_server.make("code", {"train.py": "one", "deep/file": "x"})
    git(git_server.folder / "code", "tag", "--annotate", "--message=v1", "v1")
    second = git_server.commit("code", {"train.py": "two"})
    command = "cat train.py; ls -A | tr '\\n' ' '; touch new"
    for revision, commit, content in (
        ("main", second, "two"), ("v1", first, "one"), (first, first, "one"), (second[:10], second, "two"),
        (None, second, "two"), ("refs/heads/main", second, "two"),
    ):  # fmt: skip
        outcome = run(spec_of(tmp_path, command, repository(git_server, "code", revision=revision)))
        assert outcome.exit_code == 1, outcome
        assert said(tmp_path) == f"{content}deep train.py " and f"is at commit {commit}" in log_of(tmp_path)
    assert len(list((tmp_path / "volumes/shared/git").iterdir())) == 2


def test_a_commit_is_fetched_once(tmp_path: Path, git_server: GitServer) -> None:
    commit = git_server.make("once", {"file": "x"})
    volumes = repository(git_server, "once", revision=commit)
    assert run(spec_of(tmp_path, "cat file", volumes)).result == "succeeded"
    (git_server.folder / "once").rename(git_server.folder / "moved")
    assert run(spec_of(tmp_path, "cat file", volumes)).result == "succeeded"
    assert "is on this node already" in log_of(tmp_path)


@pytest.mark.parametrize(
    ("name", "revision", "told"),
    [
        ("bad", "f" * 40, "it has no commit, branch or tag 'ffff"),
        ("bad", "no-such-branch", "it has no commit, branch or tag 'no-such-branch'"),
        ("none", "main", "git cannot fetch it"),
    ],
)
def test_commits_that_cannot_be_had(tmp_path: Path, git_server: GitServer, name: str, revision: str, told: str) -> None:
    if not (git_server.folder / "bad").exists():
        git_server.make("bad", {"file": "x"})
    text = text_of(run(spec_of(tmp_path, "true", repository(git_server, name, revision=revision))))
    assert text.startswith(f"VolumeMountError: The git repository {git_server.url}/{name} cannot be used at v"), text
    assert told in text, text
    assert list((tmp_path / "volumes/shared/git").iterdir()) == []


def test_a_repository_by_ssh(tmp_path: Path, git_server: GitServer, sftp: SftpServer) -> None:
    """The server allows nothing but SFTP, so it is its words that tell how far it went."""
    url = f"ssh://root@127.0.0.1:{sftp.port}{git_server.folder}/code"
    volumes = {"gitRepositories": [{"repositoryUrl": url, "relativeMountPath": "v", "hostKey": sftp.host_key}]}
    given = {"/mountVolumes/gitRepositories/0/credentials/privateKey": sftp.private_key}
    before = sftp.log.read_text().count("Accepted publickey")
    text = text_of(run(spec_of(tmp_path, "true", volumes), private=given))
    assert "git cannot fetch it" in text and sftp.log.read_text().count("Accepted publickey") == before + 1, text
    other = (sftp.folder.parent / "user.pub").read_text().strip()
    volumes["gitRepositories"][0]["hostKey"] = other
    assert "Host key verification failed" in text_of(run(spec_of(tmp_path, "true", volumes), private=given))


# Directories of the host --------------------------------------------------------------------------------------------


def test_directories_of_the_host_as_the_administrator_allows(tmp_path: Path) -> None:
    outside, allowed = tmp_path / "outside", tmp_path / "allowed"
    (allowed / "in/side").mkdir(parents=True)
    outside.mkdir()
    (allowed / "in/file").write_text("there\n")
    (allowed / "out").symlink_to(outside)
    (tmp_path / "other").symlink_to(allowed)
    reading, writing = {"path": str(allowed)}, {"path": str(allowed / "in/side"), "read_only": False}
    assert run(spec_of(tmp_path, "cat file", host(allowed / "in", reading, writing))).result == "succeeded"
    assert said(tmp_path) == "there\n"
    # A link counts as what it leads to, in what is asked for as in what is allowed.
    linked = host(tmp_path / "other/in", {"path": str(tmp_path / "other")})
    assert run(spec_of(tmp_path, "cat file", linked)).result == "succeeded"
    assert run(spec_of(tmp_path, "touch new", host(allowed / "in", reading, writing))).exit_code == 1
    assert "the administrator allows no more" in log_of(tmp_path)
    assert run(spec_of(tmp_path, "touch new", host(allowed / "in/side", reading, writing))).result == "succeeded"
    assert (allowed / "in/side/new").exists()
    assert run(spec_of(tmp_path, "touch it", host(allowed / "in/side", writing, readOnly=True))).exit_code == 1
    for path in (outside, allowed / "out", tmp_path, allowed / "in/../.."):
        text = text_of(run(spec_of(tmp_path, "true", host(path, reading, writing))))
        assert "the administrator does not allow it" in text and "host-directories.json" in text, text
    assert json.dumps(str(outside)) in text_of(run(spec_of(tmp_path, "true", host(allowed / "out", reading))))


def test_a_host_directory_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    allowed = {"path": str(tmp_path)}
    for path in (tmp_path / "file", tmp_path / "none"):
        assert "it cannot be opened" in text_of(run(spec_of(tmp_path, "true", host(path, allowed))))
    text = text_of(run(spec_of(tmp_path, "true", host(tmp_path, {**allowed, "owner": "nobody-of-this-name"}))))
    assert "no user 'nobody-of-this-name'" in text
