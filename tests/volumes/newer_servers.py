"""Servers of S3, SFTP and git on loopback, for the kinds of volumes that 2026-11-01 adds."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.volumes.servers import PATIENCE, free_port, listens, running
from trainshed.volumes import rclone

#: Of the S3 server, which takes any; and one that must be seen nowhere.
S3_ID, S3_KEY = "AKIAFORTESTS", "only/for+tests-s3"


@dataclass(frozen=True, slots=True)
class S3Server:
    """A moto server."""

    endpoint: str
    log: Path
    process: subprocess.Popen[bytes]

    def rclone(self, *arguments: str) -> str:
        """What rclone prints, which knows this server as ``s3:``."""
        program = rclone.find()
        if not program:
            pytest.skip(f"there is no rclone that is new enough: {rclone.HOW_TO_INSTALL}")
        settings = {
            "TYPE": "s3", "PROVIDER": "Other", "ENDPOINT": self.endpoint, "ACCESS_KEY_ID": S3_ID,
            "SECRET_ACCESS_KEY": S3_KEY,
        }  # fmt: skip
        environment = {**os.environ, **{f"RCLONE_CONFIG_S3_{name}": value for name, value in settings.items()}}
        done = subprocess.run(
            [program, "--config=", *arguments], env=environment, capture_output=True, text=True, timeout=PATIENCE
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def make_bucket(self, name: str) -> None:
        """An empty one."""
        urllib.request.urlopen(urllib.request.Request(f"{self.endpoint}/{name}", method="PUT"), timeout=PATIENCE)

    def reads_of(self, path: str) -> int:
        """How often the content of ``bucket/key`` was asked for."""
        return self.log.read_text().count(f"GET /{path}?")


@dataclass(frozen=True, slots=True)
class SftpServer:
    """An sshd that lets root in with one key, and runs nothing but SFTP."""

    port: int
    #: The server's public key, and the private key of who may sign in.
    host_key: str
    private_key: str
    folder: Path
    log: Path
    process: subprocess.Popen[bytes]


@dataclass(frozen=True, slots=True)
class GitServer:
    """A git daemon whose repositories are the folders below ``folder``."""

    url: str
    folder: Path
    process: subprocess.Popen[bytes]

    def make(self, name: str, files: dict[str, str]) -> str:
        """A repository with one commit on ``main``; returns the commit."""
        repository = self.folder / name
        repository.mkdir()
        git(repository, "init", "--quiet", "--initial-branch=main")
        return self.commit(name, files)

    def commit(self, name: str, files: dict[str, str]) -> str:
        """One more commit; returns it."""
        repository = self.folder / name
        for path, content in files.items():
            (repository / path).parent.mkdir(parents=True, exist_ok=True)
            (repository / path).write_text(content)
        git(repository, "add", "--all")
        git(repository, "commit", "--quiet", "--message=x")
        return git(repository, "rev-parse", "HEAD").strip()


def git(where: Path, *arguments: str) -> str:
    """What git prints."""
    names = {f"GIT_{role}_{part}": "t@example.org" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}
    environment = {**os.environ, **names, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}
    done = subprocess.run(["git", *arguments], cwd=where, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def moto(folder: Path, port: int = 0) -> Iterator[S3Server]:
    """Skips with the reason when it is not installed."""
    if importlib.util.find_spec("moto") is None or importlib.util.find_spec("flask") is None:
        pytest.skip("there is no S3 server (pip install 'moto[server,s3]')")
    port = port or free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with running(command, folder / "moto.log", lambda: listens(port)) as process:
        yield S3Server(f"http://127.0.0.1:{port}", folder / "moto.log", process)


@contextmanager
def sshd(folder: Path) -> Iterator[SftpServer]:
    """Skips with the reason when it is not installed."""
    program = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None or shutil.which("ssh-keygen") is None:
        pytest.skip("there is no sshd (apt-get install openssh-server)")
    if os.geteuid() != 0:
        pytest.skip("sshd becomes the user who signs in, so it must be root")
    port, files = free_port(), folder / "files"
    files.mkdir()
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    for name, kind in (("host", "ed25519"), ("other", "rsa"), ("user", "ed25519")):
        command = ["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(folder / name)]
        subprocess.run(command, check=True, capture_output=True)
    (folder / "authorized").write_text((folder / "user.pub").read_text())
    settings = folder / "sshd_config"
    settings.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nHostKey {folder}/other\nUsePAM no\n"
        f"AuthorizedKeysFile {folder}/authorized\nStrictModes no\nPermitRootLogin yes\n"
        f"PasswordAuthentication yes\nPidFile none\nSubsystem sftp internal-sftp\nMaxStartups 50\n"
        "ForceCommand internal-sftp\n"
    )
    command = [program, "-D", "-f", str(settings), "-E", str(folder / "sshd.log")]
    with running(command, folder / "sshd.out", lambda: listens(port)) as process:
        key = (folder / "host.pub").read_text().strip()
        yield SftpServer(port, key, (folder / "user").read_text(), files, folder / "sshd.log", process)


class Meter:
    """Stands between clients and a server of 127.0.0.1, and counts the bytes that the server sends."""

    def __init__(self, port: int) -> None:
        self._server = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.bytes = 0
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def close(self) -> None:
        """No client comes any more, and those that came are gone."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(PATIENCE)

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server))
                self._start(self._pass_on, client, server, False)
                self._start(self._pass_on, server, client, True)

    def _pass_on(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                self.bytes += len(data) if counted else 0
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def sftp_by_password(folder: Path, user: str, password: str) -> Iterator[tuple[int, str]]:
    """rclone's own server, for sshd takes only the passwords of the machine's users: its port and public key."""
    program = rclone.find()
    if not program:
        pytest.skip(f"there is no rclone that is new enough: {rclone.HOW_TO_INSTALL}")
    port, key = free_port(), folder / "host"
    files = folder / "files"
    files.mkdir()
    subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-N", "", "-f", str(key)], check=True, capture_output=True)
    command = [
        program, "serve", "sftp", str(files), f"--addr=127.0.0.1:{port}", f"--user={user}", f"--pass={password}",
        f"--key={key}", "--config=",
    ]  # fmt: skip
    with running(command, folder / "serve.log", lambda: listens(port)):
        yield port, key.with_suffix(".pub").read_text().strip()


@contextmanager
def git_daemon(folder: Path) -> Iterator[GitServer]:
    """Skips with the reason when it is not installed."""
    if shutil.which("git") is None:
        pytest.skip("there is no git (apt-get install git)")
    port, repositories = free_port(), folder / "repositories"
    repositories.mkdir()
    command = [
        "git", "daemon", "--listen=127.0.0.1", f"--port={port}", "--export-all", f"--base-path={repositories}",
        str(repositories),
    ]  # fmt: skip
    with running(command, folder / "git.log", lambda: listens(port)) as process:
        yield GitServer(f"git://127.0.0.1:{port}", repositories, process)
