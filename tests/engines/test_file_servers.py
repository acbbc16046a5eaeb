"""File servers of the local engine: served, found again, logged in to, and gone without a trace."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.engines.conftest import InLab
from tests.engines.lab import Lab, eventually
from tests.support.leftovers import look_until_nothing
from tests.support.machine import why_no_namespaces
from trainshed.engines.local.addresses import file_server_address
from trainshed.engines.local.fileserver import disks, nfs, ssh
from trainshed.engines.local.fileserver.keeper import FileServerKeeper
from trainshed.engines.local.layout import Layout
from trainshed.engines.local.wire import Refused
from trainshed.engines.protocol import FileServerCondition, FileServerSpec, FileServerStatus
from trainshed.volumes.libnfs import Connection, Server, available

#: Its address follows from it, and other processes of these tests have servers too.
UID = f"u{os.getpid()}"
SPEC = FileServerSpec(UID, "fs", 2**30, "demo", admin_password="let me in 4711")

_WHY_NONE = nfs.why_not() or why_no_namespaces()
needs_ganesha = pytest.mark.skipif(bool(_WHY_NONE), reason=f"no file servers here: {_WHY_NONE}")
needs_libnfs = pytest.mark.skipif(not available(), reason="libnfs is not installed: apt-get install libnfs13")
needs_ssh = pytest.mark.skipif(
    not Path("/usr/sbin/sshd").exists() or not Path("/usr/bin/sftp").exists(),
    reason="OpenSSH is not installed: apt-get install openssh-server openssh-client",
)


async def serving(lab: Lab, uid: str = UID) -> FileServerStatus:
    """Its status, once it serves and the administrator may log in."""

    def found(view: object) -> FileServerStatus | None:
        of_it = (s for s in view.file_servers if s.uid == uid)  # type: ignore[attr-defined]
        return next((s for s in of_it if s.condition is FileServerCondition.SERVING), None)

    return await lab.until(found, f"file server {uid} serves")


def attached_images() -> list[str]:
    """Files behind loop devices of this machine."""
    return [path.read_text() for path in Path("/sys/block").glob("loop*/loop/backing_file")]


def make_key(path: Path) -> str:
    """A new key; its public half."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path.with_suffix(".pub").read_text()


def connect(status: FileServerStatus) -> Connection:
    assert status.nfs_port is not None and status.mount_port is not None
    return Connection(Server(status.address, "/mnt/data", status.nfs_port, status.mount_port))


def listens(status: FileServerStatus) -> bool:
    """Whether somebody can begin to log in."""
    assert status.ssh_port is not None
    try:
        with socket.create_connection((status.address, status.ssh_port), 5) as line:
            return line.recv(4) == b"SSH-"
    except OSError:
        return False


def sftp(folder: Path, status: FileServerStatus, commands: str, password: str = "", key: Path | None = None) -> str:
    """What OpenSSH's client says; the first line is its exit status."""
    ask = folder / "askpass"
    ask.write_text(f"#!/bin/sh\necho '{password}'\n")
    ask.chmod(0o700)
    methods = "publickey" if key else "password"
    options = {
        "StrictHostKeyChecking": "no",
        "UserKnownHostsFile": str(folder / "known_hosts"),
        "PreferredAuthentications": methods,
        "NumberOfPasswordPrompts": "1",
        "IdentitiesOnly": "yes",
        "BatchMode": "no",
        **({"IdentityFile": str(key)} if key else {}),
    }
    done = subprocess.run(
        # Options first: -b has its own idea of BatchMode.
        [
            *("sftp", "-F", "none"),
            *(f"-o{name}={value}" for name, value in options.items()),
            *("-b", "-", "-P", str(status.ssh_port), f"demo@{status.address}"),
        ],
        input=commands,
        env={**os.environ, "SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force", "DISPLAY": ":0"},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
        start_new_session=True,
    )
    return f"{done.returncode}\n{done.stdout}"


@pytest.mark.slow
@needs_ganesha
@needs_libnfs
def test_it_serves_survives_the_daemon_and_goes_without_a_trace(in_lab: InLab, home: Path) -> None:
    async def body(lab: Lab) -> None:
        await lab.engine.ensure_file_server(SPEC)
        first = await serving(lab)
        assert first.missing == ()
        await lab.engine.ensure_file_server(SPEC)
        connection = connect(first)
        connection.close_file(connection.open(b"/kept", os.O_CREAT | os.O_RDWR))
        size = connection.file_system(b"/")
        connection.close()
        assert 0.9 * 2**30 < size["f_blocks"] * size["f_frsize"] <= 2**30
        # The image is as small as what is in it.
        assert (home / "fileservers" / UID / "disk.img").stat().st_blocks * 512 < 2**28

        daemon = lab.engine._link._daemon_pid
        os.kill(daemon, signal.SIGKILL)
        await eventually(lambda: lab.engine._link._daemon_pid != daemon, "another daemon")
        again = await serving(lab)
        assert again == first
        connection = connect(again)
        assert "kept" in {entry.name.decode() for entry in connection.list(b"/")}
        connection.close()

        await lab.engine.remove_file_server(UID)
        await lab.until(lambda view: True if not view.file_servers else None, "its end")
        assert not list((home / "engine/local/fileservers").iterdir())
        assert not list((home / "logs/fileservers").iterdir())
        assert (home / "fileservers" / UID / "disk.img").exists(), "its data is the caller's to remove"
        assert not [image for image in attached_images() if str(home) in image]

    in_lab(body)
    assert not look_until_nothing(home)


@pytest.mark.slow
@needs_ganesha
@needs_ssh
def test_the_administrator_logs_in_by_password_and_sees_the_data_only(
    in_lab: InLab, home: Path, tmp_path: Path
) -> None:
    async def body(lab: Lab) -> None:
        await lab.engine.ensure_file_server(SPEC)
        status = await serving(lab)
        await eventually(lambda: listens(status), "its SSH server")
        (tmp_path / "data.bin").write_bytes(b"x" * 100_000)
        commands = (
            "pwd\nput data.bin\nmkdir deep\nrename data.bin deep/data\nls -la deep\nls /\nls /mnt\nget /etc/passwd\n"
        )
        said = await asyncio.to_thread(sftp, tmp_path, status, commands, SPEC.admin_password)
        assert "Remote working directory: /mnt/data" in said
        assert "100000" in said
        assert "stat remote: No such file or directory" in said or "not found" in said
        assert not (tmp_path / "passwd").exists()
        wrong = await asyncio.to_thread(sftp, tmp_path, status, "pwd\n", "wrong")
        assert wrong.startswith("255") and "Permission denied" in wrong
        # Another account: by key alone, and the former password is none any more.
        key = tmp_path / "key"
        public = make_key(key)
        await lab.engine.ensure_file_server(replace(SPEC, admin_key=public, admin_password=""))
        by_key = ""

        def logged_in() -> bool:
            nonlocal by_key
            by_key = sftp(tmp_path, status, "ls deep\n", key=key)
            return by_key.startswith("0")

        await eventually(logged_in, "a login by key")
        assert "deep/data" in by_key
        refused = await asyncio.to_thread(sftp, tmp_path, status, "pwd\n", SPEC.admin_password)
        assert refused.startswith("255")

    in_lab(body)
    log_and_state = [path for path in home.rglob("*") if path.is_file() and path.name != disks.IMAGE]
    assert not [path for path in log_and_state if SPEC.admin_password.encode() in path.read_bytes()]


@pytest.mark.slow
@needs_ganesha
@needs_ssh
@needs_libnfs
def test_logins_come_from_allowed_addresses_only_and_nfs_sees_what_they_do(
    in_lab: InLab, home: Path, tmp_path: Path
) -> None:
    async def body(lab: Lab) -> None:
        await lab.engine.ensure_file_server(replace(SPEC, allowed=("203.0.113.0/24", "127.0.0.0/8")))
        status = await serving(lab)
        await eventually(lambda: listens(status), "its SSH server")
        connection = connect(status)
        assert {entry.name for entry in connection.list(b"/")} == {b".", b".."}
        (tmp_path / "data.bin").write_bytes(b"first")
        said = await asyncio.to_thread(sftp, tmp_path, status, "put data.bin\n", SPEC.admin_password)
        assert said.startswith("0"), said
        assert b"data.bin" in {entry.name for entry in connection.list(b"/")}
        assert connection.stat(b"/data.bin").size == 5
        (tmp_path / "data.bin").write_bytes(b"second")
        commands = "rm data.bin\nput data.bin\nput data.bin other\n"
        said = await asyncio.to_thread(sftp, tmp_path, status, commands, SPEC.admin_password)
        assert said.startswith("0"), said
        assert connection.stat(b"/data.bin").size == 6
        assert {b"data.bin", b"other"} <= {entry.name for entry in connection.list(b"/")}
        handle = connection.open(b"/data.bin", os.O_RDONLY)
        assert connection.read(handle, 0, 100) == b"second"
        connection.close_file(handle)
        connection.close()

        await lab.engine.ensure_file_server(replace(SPEC, allowed=("203.0.113.0/24",)))

        def refused() -> bool:
            return sftp(tmp_path, status, "pwd\n", SPEC.admin_password).startswith("255")

        await eventually(refused, "a refusal")

    in_lab(body)


@pytest.mark.slow
@needs_ganesha
@needs_libnfs
def test_who_is_not_root_is_turned_away(in_lab: InLab) -> None:
    """Jobs that run as users of their own cannot go round the mounts that they are given."""

    async def body(lab: Lab) -> None:
        await lab.engine.ensure_file_server(SPEC)
        status = await serving(lab)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.setresgid(65534, 65534, 65534)
                os.setresuid(65534, 65534, 65534)
                connect(status).list(b"/")
            except OSError:
                code = 0
            finally:
                os._exit(code)
        _, ended = await asyncio.to_thread(os.waitpid, pid, 0)
        assert os.waitstatus_to_exitcode(ended) == 0

    in_lab(body)


@pytest.mark.slow
@needs_ganesha
def test_ports_that_others_have_are_left_to_them(in_lab: InLab) -> None:
    async def body(lab: Lab) -> None:
        with socket.socket() as other:
            # As an NFS server of the machine's own has it, on all addresses.
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind((file_server_address(UID, ()), nfs.PORTS[0]))
            other.listen(1)
            await lab.engine.ensure_file_server(SPEC)
            status = await serving(lab)
            assert status.nfs_port not in (None, nfs.PORTS[0])
            assert status.mount_port == nfs.PORTS[1]

    in_lab(body)


def test_without_ganesha_nodes_see_the_directory_itself(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nfs, "why_not", lambda: "nfs-ganesha is not installed; apt-get install nfs-ganesha")
    layout = Layout(home)
    layout.make()

    async def body() -> None:
        changes: list[None] = []
        keeper = FileServerKeeper(layout, lambda: changes.append(None))
        spec = {"uid": "u1", "name": "fs", "disk_bytes": 2**30, "admin_name": "demo", "admin_key": "", "allowed": []}
        keeper.ensure(spec, "")
        (status,) = keeper.statuses()
        assert (status["condition"], status["nfs_port"], status["ssh_port"]) == ("serving", None, None)
        assert "apt-get install nfs-ganesha" in status["missing"][0]
        assert changes and (home / "fileservers/u1").is_dir()
        # Another daemon, where ganesha was taken away from a server that has an image.
        (home / "fileservers/u1" / disks.IMAGE).touch()
        other = FileServerKeeper(layout, lambda: None)
        other.take_over()
        (told,) = other.statuses()
        assert told["condition"] == "failed" and "apt-get install" in told["reason"]["text"]
        keeper.remove("u1")
        assert keeper.statuses() == [] and not list(layout.file_servers().iterdir())

    asyncio.run(body())


def test_one_that_cannot_have_a_directory_is_refused(home: Path) -> None:
    layout = Layout(home)
    layout.make()
    (home / "fileservers").write_text("")

    async def body() -> None:
        keeper = FileServerKeeper(layout, lambda: None)
        with pytest.raises(Refused, match=r"The file server fs: .*fileservers"):
            keeper.ensure({"uid": "u1", "name": "fs", "disk_bytes": 1}, "")
        assert keeper.statuses() == []

    asyncio.run(body())


@pytest.mark.parametrize(
    ("login", "told"),
    [
        (ssh.Login("demo"), "neither a password nor a public key"),
        (ssh.Login("demo\nPermitRootLogin yes", password="x"), "no name that an account can have"),
        (ssh.Login("sshd", password="x"), "no name that an account can have"),
        (ssh.Login("demo", password="x", allowed=("10.0.0.0/8 root",)), "neither an address nor a CIDR range"),
    ],
)
@needs_ssh
def test_a_login_that_cannot_be_says_why(login: ssh.Login, told: str) -> None:
    assert told in ssh.why_not(login)
