"""The process of one file server: a fork of the node daemon that holds its namespaces, disks and servers.

It has a mount namespace (its disks, a private ``/run``, the accounts of its SSH server) and a PID namespace, whose
first process supervises the servers: one that dies is started again, after a pause that grows while it dies at once.
When the daemon ends the kernel ends all of it, and the mount of the disks with it; what was written is in the kernel's
page cache by then, so that nothing is lost.

Messages to the daemon: ``{"serving": {"missing": [...]}}``, ``{"starting": why}``, ``{"failed": why}``.
From the daemon: ``{"login": {...}}`` when the service has given the administrator's account.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from trainshed.engines.local.fileserver import disks, nfs, ssh
from trainshed.engines.local.messages import Lines, Message, encode
from trainshed.resources.exports import MOUNT_POINT
from trainshed.runner import linux
from trainshed.runner.events import EventLoop
from trainshed.runner.ground import reset_child

#: Seconds before a server that died is started again: the first pause and the longest, and after which life it begins
#: anew with the first one.
_FIRST_PAUSE, _LONGEST_PAUSE, _WELL_AFTER = 0.1, 5.0, 10.0
#: Seconds between looks whether the server answers, and for what the former process left to be gone.
_LOOK_AGAIN, _FORMER_PATIENCE = 0.02, 20.0
#: How often the NFS server may die before it has ever served, until the file server is called failed.
_ATTEMPTS = 3
_CHUNK = 1 << 16
_RUN = "/run"


@dataclass(frozen=True, slots=True)
class FileServerConfig:
    """What the process is started with."""

    uid: str
    #: Its directory below ``fileservers`` of the home, real path; and the folder of its programs.
    folder: str
    state: str
    log: str
    size: int
    address: str
    nfs_port: int
    mount_port: int
    ssh_port: int


def become_file_server(config: FileServerConfig, channel: socket.socket, daemon_pid: int) -> None:
    """The process's whole life, in a fresh fork. Returns when it is over."""
    reset_child()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    keep = channel.fileno()
    os.closerange(3, keep)
    os.closerange(keep + 1, 1 << 20)
    linux.set_parent_death_signal(signal.SIGKILL)
    if os.getppid() != daemon_pid:
        return
    try:
        linux.unshare(linux.CLONE_NEWNS | linux.CLONE_NEWPID)
        linux.mount("none", "/", None, linux.MS_REC | linux.MS_PRIVATE)
    except OSError as error:
        why = f"it cannot have namespaces ({error}); run the service as root, in a container with --privileged"
        channel.sendall(encode({"failed": why}))
        return
    pid = os.fork()
    if pid == 0:
        linux.set_parent_death_signal(signal.SIGKILL)
        _Supervisor(config, channel).live()
        os._exit(0)
    channel.close()
    os.waitpid(pid, 0)


class _Supervisor:
    """PID 1 of the file server's namespace."""

    def __init__(self, config: FileServerConfig, channel: socket.socket) -> None:
        self._config = config
        self._channel = channel
        self._lines = Lines()
        self._ended = False
        self._missing: list[str] = []
        self._log = Path(config.log)
        self._own = Path(_RUN, "trainshed")
        self._nfs: _Program | None = None
        self._ssh: _Program | None = None
        self._served = False
        self._deaths = 0

    def live(self) -> None:
        """Until the daemon lets go of the channel."""
        self._loop = EventLoop()
        try:
            lock = self._only_one()
            self._make_namespace()
            found = disks.attach(Path(self._config.folder), self._config.size)
        except (disks.DiskError, OSError) as error:
            self._send({"failed": f"its disks cannot be used: {error}"})
            return
        if found.missing:
            self._missing.append(found.missing)
        self._directory = found.directory
        nfs.turn_over(self._log)
        config = self._config
        export = nfs.Export(found.directory, config.address, config.nfs_port, config.mount_port)
        recovery = Path(config.state, "recovery")
        recovery.mkdir(exist_ok=True)
        file = self._own / "ganesha.conf"
        file.write_text(nfs.configuration(export, recovery))
        with self._log.open("ab") as log:
            self._output = log.fileno()
            # Its namespace has no interface; the socket in /run is enough to register.
            portmapper = _Program(
                self._loop,
                nfs.portmapper_command(),
                log.fileno(),
                network=False,
                on_end=lambda code: self._again(portmapper),
            )
            portmapper.start()
            self._nfs = _Program(
                self._loop, nfs.server_command(file, self._log), log.fileno(), keep=lock, on_end=self._nfs_ended
            )
            self._loop.watch(self._channel, self._read)
            self._when(Path(_RUN, "rpcbind.sock").exists, self._start_nfs)
            self._loop.run_until(lambda: self._ended)

    def _only_one(self) -> int:
        """Wait until nothing is left of the process before: two mounts of one image would destroy it."""
        descriptor = os.open(Path(self._config.state, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + _FORMER_PATIENCE
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return descriptor
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise OSError(0, "a former process of this file server does not end") from None
                time.sleep(_LOOK_AGAIN)

    def _make_namespace(self) -> None:
        """A ``/proc`` of this PID namespace, and a private ``/run``; the home stays where it is if it lies there."""
        linux.mount("proc", "/proc", "proc", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
        kept = [path for path in (self._config.folder, self._config.state, str(self._log.parent)) if _below_run(path)]
        Path(self._log.parent).mkdir(mode=0o700, parents=True, exist_ok=True)
        trees = [(path, linux.clone_tree(path)) for path in kept]
        linux.mount("none", os.path.realpath(_RUN), "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=0755")
        for path, tree in trees:
            Path(path).mkdir(mode=0o700, parents=True)
            linux.attach_tree(tree, path)
            os.close(tree)
        for name in ("ganesha", "rpcbind", "sshd"):
            Path(_RUN, name).mkdir(mode=0o755)
        self._own.mkdir(mode=0o700)

    def _when(self, holds: Callable[[], bool], act: Callable[[], None]) -> None:
        """Look again and again, for something that no event tells of."""
        if holds():
            act()
        else:
            self._loop.after(_LOOK_AGAIN, lambda: self._when(holds, act))

    def _start_nfs(self) -> None:
        assert self._nfs is not None
        started = self._nfs.start()
        if started:
            self._send({"starting": f"its NFS server cannot be started ({started}); it is tried again"})
            return
        pid = self._nfs.pid
        self._when(lambda: self._nfs is None or self._nfs.pid != pid or self._answers(), lambda: self._up(pid))

    def _answers(self) -> bool:
        for port in (self._config.nfs_port, self._config.mount_port):
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
                probe.settimeout(1.0)
                if probe.connect_ex((self._config.address, port)) != 0:
                    return False
        return True

    def _up(self, pid: int) -> None:
        assert self._nfs is not None
        if self._nfs.pid != pid:
            return  # It ended meanwhile; its end starts it again.
        self._served = True
        self._send({"serving": {"missing": self._missing}})

    def _nfs_ended(self, code: int) -> None:
        self._deaths += 1
        said = nfs.last_words(self._log)
        why = f"its NFS server ended with exit code {code}" + (f": {said}" if said else "")
        if not self._served and self._deaths >= _ATTEMPTS:
            self._send({"failed": why})
            self._ended = True
            return
        self._send({"starting": f"{why}. It is started again"})
        assert self._nfs is not None
        self._loop.after(self._nfs.pause, self._start_nfs)

    def _read(self) -> None:
        data = b""
        with suppress(OSError):
            data = self._channel.recv(_CHUNK)
        if not data:
            self._ended = True
        for message in self._lines.feed(data):
            if "login" in message:
                told = message["login"]
                self._log_in(ssh.Login(**{**told, "allowed": tuple(told["allowed"])}))

    def _log_in(self, login: ssh.Login) -> None:
        """Start the SSH server for this account, instead of a former one."""
        if self._ssh is not None:
            self._ssh.stop()
        config = self._config
        try:
            ssh.make_host_key(Path(config.state, "ssh_host_ed25519_key"))
            for target, file in ssh.write_account(login, self._own).items():
                with suppress(FileNotFoundError):
                    linux.mount(str(file), target, None, linux.MS_BIND)
            root = self._session_root()
            file = self._own / "sshd_config"
            key = Path(config.state, "ssh_host_ed25519_key")
            file.write_text(ssh.configuration(login, config.address, config.ssh_port, self._own, root, key))
        except (OSError, subprocess.SubprocessError) as error:
            self._send({"noLogin": f"nobody can log in by SSH: {error}"})
            return
        program = _Program(self._loop, ssh.command(file), self._output, on_end=lambda code: self._again(program))
        self._ssh = program
        program.start()

    def _session_root(self) -> Path:
        """What sessions see as ``/``: nothing but the data, where nothing is a device or gives rights."""
        root = self._own / "root"
        data = root / MOUNT_POINT.lstrip("/")
        if not data.exists():
            root.mkdir(mode=0o755)
            linux.mount("none", str(root), "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=0755,size=64k")
            data.mkdir(mode=0o755, parents=True)
            tree = linux.clone_tree(self._directory)
            linux.restrict_mounts(tree, linux.MOUNT_ATTR_NOSUID | linux.MOUNT_ATTR_NODEV)
            linux.attach_tree(tree, str(data))
            os.close(tree)
        return root

    def _again(self, program: _Program) -> None:
        def start() -> None:
            program.start()

        self._loop.after(program.pause, start)

    def _send(self, message: Message) -> None:
        with suppress(OSError):
            self._channel.sendall(encode(message))


class _Program:
    """A server that is started again and again."""

    def __init__(
        self,
        loop: EventLoop,
        command: list[str],
        output: int,
        *,
        keep: int | None = None,
        network: bool = True,
        on_end: Callable[[int], None] | None = None,
    ) -> None:
        self._loop = loop
        self._command = command
        self._output = output
        self._keep = () if keep is None else (keep,)
        self._network = network
        self._on_end = on_end
        self._started_at = 0.0
        self._next_pause = _FIRST_PAUSE
        self._stopped = False
        self.pid = 0

    @property
    def pause(self) -> float:
        """Seconds to wait before it is started again; grows while it ends soon."""
        if time.monotonic() - self._started_at > _WELL_AFTER:
            self._next_pause = _FIRST_PAUSE
        pause = self._next_pause
        self._next_pause = min(_LONGEST_PAUSE, 2 * pause)
        return pause

    def start(self) -> str:
        """Returns why it cannot be started; empty when it was, or has been stopped for good."""
        if self._stopped:
            return ""
        self._started_at = time.monotonic()
        try:
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                cwd="/",
                pass_fds=self._keep,
                preexec_fn=None if self._network else lambda: linux.unshare(linux.CLONE_NEWNET),
                start_new_session=True,
            )
        except OSError as error:
            return error.strerror or str(error)
        # The loop reaps it.
        process.returncode = 0
        self.pid = process.pid
        self._loop.on_exit(process.pid, self._ended)
        return ""

    def stop(self) -> None:
        """For good; who is logged in stays until they leave."""
        self._stopped = True
        if self.pid:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)

    def _ended(self, code: int) -> None:
        self.pid = 0
        if self._on_end is not None:
            self._on_end(code)


def _below_run(path: str) -> bool:
    return path.startswith(("/run/", "/var/run/"))
