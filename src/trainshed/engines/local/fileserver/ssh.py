"""SSH logins of a file server's administrator: OpenSSH's sshd, for SFTP and scp into the data and nothing else.

The account exists in the file server's own mount namespace only, where ``/etc/passwd`` and ``/etc/shadow`` are files of
its own. Sessions are shut in a root directory that holds the data at ``/mnt/data`` (sshd_config(5), ChrootDirectory),
and are the service's user there, as NFS clients are: a shell would be that user's on this machine, so there is none.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import re
import secrets
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from trainshed.resources.exports import MOUNT_POINT

#: The usual port, and the one where another SSH server of this machine has it on all addresses.
PORT, OTHER_PORT = 22, 2222
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}", re.ASCII)
_ADDRESS = re.compile(r"[0-9A-Fa-f.:/*]{1,64}", re.ASCII)
_SALT = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Login:
    """Who may log in."""

    name: str
    key: str = ""
    #: Addresses and CIDR ranges from which logins are allowed; ``*`` is all of them.
    allowed: tuple[str, ...] = ("*",)
    password: str = field(default="", repr=False)


def why_not(login: Login) -> str:
    """Why nobody can log in, with what mends it; empty when somebody can."""
    if _sshd() is None:
        return "openssh-server is not installed; apt-get install openssh-server"
    if _NAME.fullmatch(login.name) is None or login.name == "sshd":
        return f"'{login.name}' is no name that an account can have (letters, digits, '-', '_' and '.')"
    if any(_ADDRESS.fullmatch(address) is None for address in login.allowed):
        return "publicIPsToAllow has an entry that is neither an address nor a CIDR range nor '*'"
    if not login.key.strip() and not login.password:
        return "its account has neither a password nor a public key"
    return ""


def _sshd() -> str | None:
    return shutil.which("sshd", path="/usr/sbin:/sbin:/usr/local/sbin")


def configuration(login: Login, address: str, port: int, folder: Path, root: Path, host_key: Path) -> str:
    """sshd_config(5). ``folder`` holds the account's files, ``root`` is what sessions see as ``/``."""
    allowed = login.allowed or ("*",)
    users = login.name if "*" in allowed else " ".join(f"{login.name}@{one}" for one in allowed)
    return f"""\
ListenAddress {address}
Port {port}
HostKey {host_key}
PidFile none
UsePAM no
StrictModes no
PermitRootLogin yes
AllowUsers {users}
AuthorizedKeysFile {folder}/authorized_keys
PasswordAuthentication {"yes" if login.password else "no"}
KbdInteractiveAuthentication no
ChrootDirectory {root}
ForceCommand internal-sftp -d {MOUNT_POINT}
Subsystem sftp internal-sftp
DisableForwarding yes
PermitTTY no
PermitUserRC no
PrintMotd no
UseDNS no
LogLevel INFO
"""


def command(configuration_file: Path) -> list[str]:
    """Stays in the foreground and says what it does to standard error."""
    return [_sshd() or "/usr/sbin/sshd", "-D", "-e", "-f", str(configuration_file)]


def write_account(login: Login, folder: Path) -> dict[str, Path]:
    """The files that make the account, in a folder that only this file server's namespace sees.

    Returns path of the machine's file -> of ours.
    """
    user, group = os.geteuid(), os.getegid()
    hashed = _hash(login.password) if login.password else "*"
    texts = {
        # The first entry of an id is its name; sshd drops its rights to those of its own account.
        "passwd": f"{login.name}:x:{user}:{group}::{MOUNT_POINT}:/bin/sh\n"
        "sshd:x:65534:65534::/run/sshd:/usr/sbin/nologin\n",
        "shadow": f"{login.name}:{hashed}:19000:0:99999:7:::\nsshd:*:19000:0:99999:7:::\n",
        "group": f"{login.name}:x:{group}:\nnogroup:x:65534:\n",
    }
    written = {}
    for name, text in texts.items():
        written[f"/etc/{name}"] = _write(folder / name, text, 0o600 if name == "shadow" else 0o644)
    # Absent on some machines; without it the C library may ask directory services.
    written["/etc/nsswitch.conf"] = _write(folder / "nsswitch.conf", "passwd: files\nshadow: files\ngroup: files\n")
    _write(folder / "authorized_keys", login.key.strip() + "\n", 0o600)
    return written


def make_host_key(path: Path) -> None:
    """Once: clients know the server by it. Raises OSError, subprocess.SubprocessError."""
    if not path.exists():
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)],
            stdin=subprocess.DEVNULL,
            check=True,
            timeout=60,
        )


def _write(path: Path, text: str, mode: int = 0o644) -> Path:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with open(descriptor, "w") as file:
        file.write(text)
    return path


def _hash(password: str) -> str:
    """crypt(3) with SHA-512, which every sshd of Linux knows."""
    library = ctypes.CDLL(ctypes.util.find_library("crypt") or "libcrypt.so.1")
    library.crypt.restype = ctypes.c_char_p
    salt = "".join(secrets.choice(_SALT) for _ in range(16))
    found = library.crypt(password.encode(), f"$6${salt}$".encode())
    if not found or not found.startswith(b"$6$"):
        raise OSError(0, "crypt(3) of this machine knows no SHA-512")
    return bytes(found).decode()
