"""Volumes that the service mounts itself, for real jobs: owners, errors, and that nothing that was closed is lost."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.runner.harness import SEGMENT, Runner, custom, make_spec, run, stdouterr, wait_for
from tests.support.machine import why_no_namespaces
from tests.volumes import servers
from tests.volumes.servers import BlobServer, FileServer
from trainshed.resources.volume_sources import volume_sources
from trainshed.runner.spec import Outcome, RunnerSpec
from trainshed.volumes import rclone

pytestmark = pytest.mark.slow

BLOB_KEY = {"/mountVolumes/azureBlobFileSystems/0/credentials/accountKey": servers.BLOB_KEY}
FILE_KEY = {"/mountVolumes/azureFileShares/0/credentials/accountKey": servers.SMB_PASSWORD}
#: Seconds within which whatever is waited for has happened.
BOUND = 30.0


@pytest.fixture(autouse=True)
def _nothing_is_left(tmp_path: Path) -> Iterator[None]:
    """No daemon of the test's."""
    yield
    until_gone(tmp_path)


def until_gone(root: Path) -> None:
    wait_until(lambda: not serving(root), "the end of what served volumes")


def serving(root: Path) -> list[int]:
    """Daemons of volumes whose folders are below this one."""
    return [pid for pid, words in command_lines().items() if b"rclone" in words and os.fsencode(root) in words]


def command_lines() -> dict[int, bytes]:
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found[int(entry.name)] = (entry / "cmdline").read_bytes()
            except OSError:
                continue
    return found


def wait_until(holds: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + BOUND
    while not holds():
        assert time.monotonic() < until, f"waited in vain for {what}"
        time.sleep(0.02)


def share(url: str = "https://acct.file.core.windows.net/share", **more: Any) -> dict[str, Any]:
    return {"azureFileShares": [{"accountName": "acct", "azureFileUrl": url, "relativeMountPath": "v", **more}]}


def smb(server: FileServer, name: str = "data", **more: Any) -> dict[str, Any]:
    url = f"https://x.file.core.windows.net/{name}"
    return share(url, **{"accountName": servers.SMB_USER, "endpoint": server.address, **more})


def blobs(server: BlobServer, container: str, **more: Any) -> dict[str, Any]:
    entry = {"accountName": servers.BLOB_ACCOUNT, "containerName": container, "endpoint": server.endpoint}
    return {"azureBlobFileSystems": [{**entry, "relativeMountPath": "v", **more}]}


def spec_of(root: Path, command: str, volumes: dict[str, Any], **changes: Any) -> RunnerSpec:
    """A job that runs in its volume ``v``; ``changes`` are of the first source."""
    spec = make_spec(root, custom(f"cd $AZ_BATCHAI_JOB_MOUNT_ROOT/v && {command}", mountVolumes=volumes))
    first, *others = volume_sources(volumes, "/mountVolumes")
    # As on a node: what is not written outlives the attempt.
    directories = replace(spec.directories, volumes=str(root / "volumes"))
    return replace(spec, volumes=(replace(first, **changes), *others), directories=directories)


def embedded(root: Path) -> Path:
    directory = root / "storage/acct/files/share"
    directory.mkdir(mode=0o700, parents=True)
    return directory


def text_of(outcome: Outcome) -> str:
    assert outcome.result == "failed" and outcome.reason is not None, outcome
    return f"{outcome.reason['code']}: {outcome.reason['text']}"


def said(root: Path) -> str:
    return (stdouterr(root) / "stdout.txt").read_text()


def test_a_directory_of_an_embedded_share(tmp_path: Path) -> None:
    directory = embedded(tmp_path)
    (directory / "a/b").mkdir(parents=True)
    url = "https://acct.file.core.windows.net/share/a/b/"
    outcome = run(spec_of(tmp_path, "echo x > file && df . | tail -1", share(url), directory=str(directory)))
    assert outcome.result == "succeeded", outcome
    assert (directory / "a/b/file").read_text() == "x\n"
    if os.geteuid() == 0 and not why_no_namespaces():
        assert said(tmp_path).split()[-1].endswith("/mounts/v")


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://acct.file.core.windows.net/share/none", "no directory 'none'"),
        ("https://acct.file.core.windows.net/share/link", "no directory 'link'"),
        ("https://acct.file.core.windows.net/share/a/%2e%2e/..", "out of the share"),
    ],
)
def test_directories_that_an_embedded_share_has_not(tmp_path: Path, url: str, told: str) -> None:
    directory = embedded(tmp_path)
    (directory / "link").symlink_to("/etc")
    assert told in text_of(run(spec_of(tmp_path, "true", share(url), directory=str(directory))))


def test_an_embedded_share_that_is_not_there(tmp_path: Path) -> None:
    told = text_of(run(spec_of(tmp_path, "true", share(), directory=str(tmp_path / "none"))))
    assert told.startswith("AZFMountError") and "create the job again" in told and "node-0" in told


def test_what_the_service_knows_to_be_impossible(tmp_path: Path) -> None:
    told = text_of(run(spec_of(tmp_path, "true", share(), problem="the key fits no lock")))
    assert told.startswith("AZFMountError: The Azure Files share acct/share") and "the key fits no lock" in told


def test_a_mount_point_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    """Of a cluster's volumes the mount root is a directory in which jobs may write."""
    from trainshed.runner.volume_places import Base, open_place

    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "root").mkdir()
    (tmp_path / "root/v").symlink_to(tmp_path / "elsewhere")
    for relative in ("v", "v/inner"):
        with pytest.raises(OSError):
            open_place(Base(str(tmp_path / "root")), relative)
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_without_privileges_an_embedded_share_is_a_link() -> None:
    # Folders of pytest are closed to other accounts.
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        root.chmod(0o777)
        directory = embedded(root)
        for made in (directory, *list(directory.parents)[:4]):
            made.chmod(0o777)
        for _ in range(2):
            with Runner(spec_of(root, "echo x >> file", share(), directory=str(directory)), uid=65534) as runner:
                assert runner.outcome().result == "succeeded"
        assert (directory / "file").read_text() == "x\nx\n"
        assert (directory / "file").stat().st_uid == 65534


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["blob", "file"])
def test_what_was_closed_is_there_whoever_is_killed(
    tmp_path: Path, kind: str, blob_server: BlobServer, file_server: FileServer
) -> None:
    container = f"killed-{kind}"
    if kind == "blob":
        blob_server.make_container(container)
        volumes, private = blobs(blob_server, container), BLOB_KEY
    else:
        (file_server.folder / container).mkdir()
        volumes, private = smb(file_server, f"data/{container}"), FILE_KEY
    write = "head -c 20000000 /dev/zero > {0} && mkdir -p d && echo closed > d/{0} && exec 3>half && echo half >&3 && "
    # The job in the middle of a write.
    outcome = run(spec_of(tmp_path, write.format("job") + "kill -9 $$", volumes), private=private)
    assert outcome.exit_code == 137, outcome
    # The runner: the holder goes on until all is written.
    command = write.format("runner") + f"echo yes > {tmp_path}/written && sleep 1000"
    with Runner(spec_of(tmp_path, command, volumes), private=private) as runner:
        wait_for(tmp_path / "written")
        os.kill(runner.pid, signal.SIGKILL)
        runner.wait_exit()
    until_gone(tmp_path)
    command = "stat -c '%n %s' job runner d/job d/runner"
    outcome = run(spec_of(tmp_path, command, volumes), private=private)
    assert said(tmp_path) == "job 20000000\nrunner 20000000\nd/job 7\nd/runner 7\n", outcome
    if kind == "file":
        assert (file_server.folder / container / "runner").stat().st_size == 20000000
    else:
        assert "20000000 runner\n" in blob_server.rclone("ls", f"blob:{container}")


@pytest.mark.slow
def test_what_cannot_be_written_fails_the_job_and_is_written_by_the_next_mount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mounts: None
) -> None:
    monkeypatch.setattr(rclone, "_STALL_SECONDS", 1.5)
    folder = tmp_path / "azurite"
    folder.mkdir()
    with servers.azurite(folder) as server:
        server.make_container("gone")
        volumes = blobs(server, "gone")
        # Opened while the server is there, closed while it is not.
        command = f"exec 3>result; echo > {tmp_path}/ready; until [ -e {tmp_path}/gone ]; do sleep 0.01; done; "
        with Runner(spec_of(tmp_path, command + "echo late >&3", volumes), private=BLOB_KEY) as runner:
            wait_for(tmp_path / "ready")
            server.process.terminate()
            server.process.wait()
            (tmp_path / "gone").touch()
            told = text_of(runner.outcome(60))
    assert told.startswith("BFSMountError") and "1 files could not be written to it: result" in told, told
    assert servers.BLOB_KEY not in told
    with servers.azurite(folder, server.port) as server:
        assert server.rclone("lsf", "blob:gone") == ""
        assert run(spec_of(tmp_path, "true", volumes), private=BLOB_KEY).result == "succeeded"
        assert server.rclone("cat", "blob:gone/result") == "late\n"


@pytest.mark.parametrize(
    ("key", "container", "told"),
    [
        (base64.b64encode(b"wrong" * 8).decode(), "data", "AuthorizationFailure"),
        (servers.BLOB_KEY, "none", "not found"),
        ("", "data", "credentials.accountKey"),
    ],
)
def test_containers_that_cannot_be_had(
    tmp_path: Path, blob_server: BlobServer, key: str, container: str, told: str
) -> None:
    blob_server.make_container("data")
    private = dict.fromkeys(BLOB_KEY, key)
    text = text_of(run(spec_of(tmp_path, "true", blobs(blob_server, container)), private=private))
    assert text.startswith(f"BFSMountError: The Azure Blob container {servers.BLOB_ACCOUNT}/{container}"), text
    assert told in text and "node-0" in text
    assert not key or key not in text


@pytest.mark.parametrize(
    ("password", "name", "told"), [("wrong password", "data", ""), (servers.SMB_PASSWORD, "none", "")]
)
def test_shares_that_cannot_be_had(
    tmp_path: Path, file_server: FileServer, password: str, name: str, told: str
) -> None:
    private = dict.fromkeys(FILE_KEY, password)
    text = text_of(run(spec_of(tmp_path, "true", smb(file_server, name)), private=private))
    assert text.startswith(f"AZFMountError: The Azure Files share {servers.SMB_USER}/{name}"), text
    assert "rclone cannot list it" in text and password not in text


def test_a_server_that_is_not_there(tmp_path: Path, mounts: None) -> None:
    text = text_of(run(spec_of(tmp_path, "true", share("https://127.0.0.1/share")), private=FILE_KEY))
    assert "connection refused" in text and servers.SMB_PASSWORD not in text


@pytest.mark.parametrize(
    ("members", "told"),
    [({"mountOptions": "--config-file=/x"}, "config-file"), ({"mountOptions": "-o ro"}, "Read-only file system")],
)
def test_options_of_containers(tmp_path: Path, blob_server: BlobServer, members: dict[str, str], told: str) -> None:
    blob_server.make_container("data")
    outcome = run(spec_of(tmp_path, "touch new", blobs(blob_server, "data", **members)), private=BLOB_KEY)
    stderr = stdouterr(tmp_path) / "stderr.txt"
    assert told in text_of(outcome) + (stderr.read_text() if stderr.exists() else "")


def test_modes_of_shares(tmp_path: Path, file_server: FileServer) -> None:
    volumes = smb(file_server, fileMode="0640", directoryMode="0750")
    outcome = run(spec_of(tmp_path, "touch f && stat -c '%a %u' f .", volumes), private=FILE_KEY)
    assert outcome.result == "succeeded", outcome
    assert said(tmp_path) == f"640 {os.geteuid()}\n750 {os.geteuid()}\n"


def test_logs_on_a_container_are_whole_at_the_end(tmp_path: Path, blob_server: BlobServer) -> None:
    blob_server.make_container("logs")
    spec = spec_of(tmp_path, "echo line", blobs(blob_server, "logs"))
    spec = replace(spec, properties={**spec.properties, "stdOutErrPathPrefix": "$AZ_BATCHAI_JOB_MOUNT_ROOT/v"})
    assert run(spec, private=BLOB_KEY).result == "succeeded"
    assert blob_server.rclone("cat", f"blob:logs/{SEGMENT}/stdouterr/stdout.txt") == "line\n"
    last = blob_server.rclone("cat", f"blob:logs/{SEGMENT}/stdouterr/execution.log").splitlines()[-1]
    assert last.endswith("node-0: the attempt succeeded")


def test_by_a_shared_access_signature(tmp_path: Path, blob_server: BlobServer) -> None:
    blob_server.make_container("signed")
    private = {name: signature("signed") for name in BLOB_KEY}
    outcome = run(spec_of(tmp_path, "mkdir d && echo x > d/f", blobs(blob_server, "signed")), private=private)
    assert outcome.result == "succeeded", outcome
    assert blob_server.rclone("cat", "blob:signed/d/f") == "x\n"


def test_credentials_are_nowhere_to_be_seen(tmp_path: Path, blob_server: BlobServer) -> None:
    blob_server.make_container("data")
    look = "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' > $AZ_BATCHAI_JOB_TEMP/seen; "
    look += f"echo > {tmp_path}/ready; until [ -e {tmp_path}/done ]; do sleep 0.01; done; cat $AZ_BATCHAI_JOB_TEMP/seen"
    with Runner(spec_of(tmp_path, look, blobs(blob_server, "data")), private=BLOB_KEY) as runner:
        wait_for(tmp_path / "ready")
        assert serving(tmp_path)
        assert [words for words in command_lines().values() if servers.BLOB_KEY.encode() in words] == []
        (tmp_path / "done").touch()
        assert runner.outcome().result == "succeeded"
    assert "AZ_BATCHAI" in said(tmp_path) and servers.BLOB_KEY not in said(tmp_path)
    for path in (*tmp_path.rglob("n0/**/*"), *tmp_path.rglob("mounts/**/*")):
        assert not path.is_file() or servers.BLOB_KEY.encode() not in path.read_bytes(), path


def signature(container: str) -> str:
    """Everything in a container, for an hour (Create a service SAS, version 2020-12-06)."""
    expiry, version = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600)), "2020-12-06"
    resource = f"/blob/{servers.BLOB_ACCOUNT}/{container}"
    to_sign = "\n".join(["racwdl", "", expiry, resource, "", "", "", version, "c", "", "", "", "", "", "", ""])
    digest = hmac.digest(base64.b64decode(servers.BLOB_KEY), to_sign.encode(), hashlib.sha256)
    signed = base64.b64encode(digest).decode()
    return urlencode({"sv": version, "sr": "c", "sp": "racwdl", "se": expiry, "sig": signed})
