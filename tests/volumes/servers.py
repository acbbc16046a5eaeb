"""Real storage servers on loopback, each for one test session: started when first needed, ended with it."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.servers.install import AZURITE
from trainshed.volumes import rclone

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)
#: Seconds in which a server must answer.
PATIENCE = 30.0
#: Azurite's well-known account, and a password for Samba's: both only on loopback.
BLOB_ACCOUNT = "devstoreaccount1"
BLOB_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
SMB_USER, SMB_PASSWORD = "shedtest", "only+for/tests,==1"


@dataclass(frozen=True, slots=True)
class BlobServer:
    """An Azurite."""

    endpoint: str
    port: int
    process: subprocess.Popen[bytes]

    def rclone(self, *arguments: str) -> str:
        """What rclone prints, which knows this server as ``blob:``."""
        program = rclone.find()
        if not program:
            pytest.skip(f"there is no rclone that is new enough: {rclone.HOW_TO_INSTALL}")
        settings = {"TYPE": "azureblob", "ACCOUNT": BLOB_ACCOUNT, "KEY": BLOB_KEY, "ENDPOINT": self.endpoint}
        environment = {**os.environ, **{f"RCLONE_CONFIG_BLOB_{name}": value for name, value in settings.items()}}
        done = subprocess.run(
            [program, "--config=", *arguments], env=environment, capture_output=True, text=True, timeout=PATIENCE
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def make_container(self, name: str) -> None:
        """An empty one."""
        self.rclone("mkdir", f"blob:{name}")


@dataclass(frozen=True, slots=True)
class FileServer:
    """A Samba with a share ``data``, whose directory is ``folder``."""

    address: str
    folder: Path
    process: subprocess.Popen[bytes]


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def azurite(folder: Path, port: int = 0) -> Iterator[BlobServer]:
    """Skips with the reason when it is not installed."""
    if why_not := AZURITE.why_not():
        pytest.skip(why_not)
    port = port or free_port()
    command = [
        "node", str(AZURITE.program), "--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(folder),
        "--silent", "--skipApiVersionCheck", "--disableTelemetry",
    ]  # fmt: skip
    with running(command, folder / "azurite.log", lambda: listens(port)) as process:
        yield BlobServer(f"http://127.0.0.1:{port}/{BLOB_ACCOUNT}", port, process)


@contextmanager
def samba(folder: Path) -> Iterator[FileServer]:
    """Skips with the reason when it is not installed. smbd ends its whole process group, so it gets one of its own."""
    if shutil.which("smbd") is None or shutil.which("smbpasswd") is None:
        pytest.skip("Samba is not installed (apt-get install samba)")
    if os.geteuid() != 0:
        pytest.skip("smbd becomes the user who logs in, so it must be root")
    port, share = free_port(), folder / "data"
    share.mkdir()
    state = "\n".join(
        f"{name} = {folder}"
        for name in ("private dir", "lock directory", "state directory", "cache directory", "pid directory",
                     "ncalrpc dir")
    )  # fmt: skip
    settings = folder / "smb.conf"
    (folder / "users").write_text(f"root = {SMB_USER}\n")
    settings.write_text(
        f"[global]\nworkgroup = TEST\nsecurity = user\nmap to guest = Never\ninterfaces = 127.0.0.1\n"
        f"bind interfaces only = yes\nsmb ports = {port}\nserver min protocol = SMB3\ndisable netbios = yes\n"
        f"load printers = no\nusername map = {folder}/users\n{state}\n"
        f"[data]\npath = {share}\nread only = no\nforce user = root\n"
    )
    told = f"{SMB_PASSWORD}\n{SMB_PASSWORD}\n"
    subprocess.run(
        ["smbpasswd", "-c", str(settings), "-s", "-a", "root"], input=told, text=True, check=True, capture_output=True
    )
    command = ["smbd", "-s", str(settings), "-F", "--no-process-group", "--debug-stdout"]
    with running(command, folder / "smbd.log", lambda: listens(port)) as process:
        yield FileServer(f"127.0.0.1:{port}", share, process)


@contextmanager
def sshd(folder: Path) -> Iterator[str]:
    """Options and address for sshfs, but for the directory. Skips with the reason when it is not installed."""
    if shutil.which("sshfs") is None or not Path("/usr/sbin/sshd").exists():
        pytest.skip("sshfs and sshd are not installed (apt-get install sshfs openssh-server)")
    if os.geteuid() != 0:
        pytest.skip("sshd becomes the user who logs in, so it must be root")
    port = free_port()
    for key in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)], check=True)
    (folder / "keys").write_text((folder / "user.pub").read_text())
    Path("/run/sshd").mkdir(exist_ok=True)
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/keys\nUsePAM no\n"
        f"StrictModes no\nPermitRootLogin yes\nPidFile {folder}/pid\nSubsystem sftp internal-sftp\n"
    )
    command = ["/usr/sbin/sshd", "-D", "-f", str(folder / "sshd_config"), "-E", str(folder / "log")]
    with running(command, folder / "out", lambda: listens(port)):
        options = f"IdentityFile={folder}/user,StrictHostKeyChecking=no,UserKnownHostsFile=/dev/null"
        yield f"sshfs -p {port} -o {options} root@127.0.0.1:"


@contextmanager
def running(command: list[str], log: Path, is_up: Callable[[], bool]) -> Iterator[subprocess.Popen[bytes]]:
    """A server, from when it is up to the end of the block, or of the tests' process if that is killed."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
    try:
        until = time.monotonic() + PATIENCE
        while not is_up():
            assert process.poll() is None and time.monotonic() < until, log.read_text(errors="replace")[-2000:]
            time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
        if process.poll() is None:
            process.kill()
            process.wait()


def die_with_parent() -> None:
    """For the child: the kernel ends it when who started it is gone (PR_SET_PDEATHSIG).

    SIGTERM, so that a server can end its own children. The parent is the thread that started it: start servers in
    one that lives as long as they are needed, as the main thread does.
    """
    _libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGTERM), 0, 0, 0)


def listens(port: int) -> bool:
    """Whether somebody answers at the port of 127.0.0.1."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
