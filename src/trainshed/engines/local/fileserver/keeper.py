"""The daemon's file servers: one process each, started again when it dies, ended on request, found again on disk.

Where nfs-ganesha is not to be had nothing serves the data: nodes of this machine then see the directory of the disks
itself, and the status says what is missing and what to install.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from trainshed.engines.local.addresses import file_server_address
from trainshed.engines.local.fileserver import nfs, ssh
from trainshed.engines.local.fileserver.disks import IMAGE
from trainshed.engines.local.fileserver.process import FileServerConfig, become_file_server
from trainshed.engines.local.layout import Layout, read_all, write_durably
from trainshed.engines.local.leftovers import kill_trees
from trainshed.engines.local.messages import Lines, Message, encode
from trainshed.engines.local.record import RESTART_FIRST, RESTART_LIMIT
from trainshed.engines.local.wire import Refused
from trainshed.engines.protocol import FileServerCondition
from trainshed.resources.reasons import Reason, ReasonCode

_CHUNK = 1 << 16
#: Seconds of life after which a process counts as having started well.
_WELL_AFTER = 10.0
#: Seconds in which it must leave when asked to; then it is killed.
_LEAVE_SECONDS = 5.0
_RECORDED = ("uid", "name", "disk_bytes", "address", "nfs_port", "mount_port", "ssh_port", "served")


@dataclass(slots=True)
class LocalFileServer:
    """One file server: what is on disk, what the service is told, its process while that lives."""

    uid: str
    name: str
    disk_bytes: int
    address: str
    nfs_port: int
    mount_port: int
    ssh_port: int
    #: Whether NFS serves it; decided when it is made, tried again at each start while it is not.
    served: bool
    condition: FileServerCondition = FileServerCondition.STARTING
    reason: Reason | None = None
    missing: list[str] = field(default_factory=list)
    #: Who may log in, once the service has said it: its password is in memory only.
    login: ssh.Login | None = None
    no_login: str = "its account is not known yet"
    pid: int = 0
    channel: socket.socket | None = None
    lines: Lines = field(default_factory=Lines)
    removing: bool = False
    started_at: float = 0.0
    restart_after: float = RESTART_FIRST

    def record(self) -> dict[str, Any]:
        """What survives the daemon, as JSON."""
        return {name: getattr(self, name) for name in _RECORDED}

    def status(self) -> dict[str, Any]:
        """As sent to the service."""
        no_login = [f"nobody can log in by SSH: {self.no_login}"] if self.no_login else []
        if self.ssh_port != ssh.PORT and not self.no_login:
            no_login = [f"SSH is at port {self.ssh_port}: another program has port {ssh.PORT}"]
        return {
            "uid": self.uid,
            "condition": self.condition.value,
            "address": self.address,
            "nfs_port": self.nfs_port if self.served else None,
            "mount_port": self.mount_port if self.served else None,
            "ssh_port": None if self.no_login or not self.served else self.ssh_port,
            "reason": self.reason.to_json() if self.reason else None,
            "missing": [*self.missing, *(no_login if self.served else [])],
        }


class FileServerKeeper:
    """Starts and ends the processes of file servers. ``on_changed`` is called when a status changed."""

    def __init__(self, layout: Layout, on_changed: Callable[[], None]) -> None:
        self._layout = layout
        self._on_changed = on_changed
        self._loop = asyncio.get_running_loop()
        self._servers: dict[str, LocalFileServer] = {}
        self._closing = False

    @property
    def pids(self) -> set[int]:
        """The processes that are file servers."""
        return {server.pid for server in self._servers.values() if server.pid}

    def statuses(self) -> list[dict[str, Any]]:
        """All of them, as sent to the service."""
        return [server.status() for server in self._servers.values()]

    def take_over(self) -> None:
        """Start again what a former daemon recorded."""
        for record in read_all(self._layout.file_servers()):
            server = LocalFileServer(**record)
            self._servers[server.uid] = server
            self._start(server)

    def ensure(self, spec: Message, password: str) -> None:
        """Have it served. Raises Refused when it can have no address or directory."""
        server = self._servers.get(spec["uid"])
        if server is None:
            try:
                server = self._make(spec)
            except OSError as error:
                raise Refused(_failed(spec["name"], f"{error.filename or 'its address'}: {error.strerror}")) from error
            self._servers[server.uid] = server
            self._start(server)
        login = ssh.Login(spec["admin_name"], spec["admin_key"], tuple(spec["allowed"]), password)
        if login != server.login:
            server.login = login
            server.no_login = ssh.why_not(login)
            self._tell_login(server)
        self._on_changed()

    def remove(self, uid: str) -> None:
        """End it; forgotten once nothing of it lives. Its data stays."""
        server = self._servers.get(uid)
        if server is None or server.removing:
            return
        server.removing = True
        if server.channel is not None:
            # Its end is the kernel's end of everything in it, and of the mount of its disks.
            with suppress(OSError):
                server.channel.shutdown(socket.SHUT_WR)
            self._loop.call_later(_LEAVE_SECONDS, self._insist, server, server.pid)
        else:
            self._forget(server)
            self._on_changed()

    def ended(self, pid: int) -> bool:
        """A child of the daemon ended. Whether it was a file server's process."""
        for server in list(self._servers.values()):
            if server.pid == pid:
                self._process_ended(server)
                return True
        return False

    def close(self) -> None:
        """End all of them for good, keeping their records. Their ends are reaped by the caller."""
        self._closing = True
        kill_trees(self.pids)

    def _insist(self, server: LocalFileServer, pid: int) -> None:
        if server.pid == pid:
            kill_trees([pid])

    def _make(self, spec: Message) -> LocalFileServer:
        folder = self._layout.file_server(spec["uid"])
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        address = file_server_address(spec["uid"], {other.address for other in self._servers.values()})
        nfs_port, mount_port = (nfs.free_port(address, port) for port in nfs.PORTS)
        ssh_port = nfs.free_port(address, ssh.PORT) if os.geteuid() == 0 else ssh.OTHER_PORT
        return LocalFileServer(
            spec["uid"], spec["name"], spec["disk_bytes"], address, nfs_port, mount_port, ssh_port, served=False
        )

    def _start(self, server: LocalFileServer) -> None:
        if server.removing or self._closing or server.pid:
            return
        why_not = nfs.why_not()
        if why_not and (server.served or (self._layout.file_server(server.uid) / IMAGE).exists()):
            self._fail(server, why_not)
            return
        server.served = not why_not
        write_durably(self._layout.file_servers() / f"{server.uid}.json", server.record())
        if why_not:
            server.condition = FileServerCondition.SERVING
            server.missing = [
                f"no NFS, no SSH and no limit of its size: nodes see its directory itself, since {why_not}"
            ]
            return
        try:
            self._launch(server)
        except OSError as error:
            self._start_later(server, f"its process cannot be started now ({error}); it is tried again")

    def _launch(self, server: LocalFileServer) -> None:
        state = self._layout.file_servers() / server.uid
        state.mkdir(mode=0o700, exist_ok=True)
        config = FileServerConfig(
            uid=server.uid,
            folder=os.path.realpath(self._layout.file_server(server.uid)),
            state=os.path.realpath(state),
            log=os.path.realpath(self._layout.file_server_log(server.uid)),
            size=server.disk_bytes,
            address=server.address,
            nfs_port=server.nfs_port,
            mount_port=server.mount_port,
            ssh_port=server.ssh_port,
        )
        ours, theirs = socket.socketpair()
        daemon_pid = os.getpid()
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            try:
                become_file_server(config, theirs, daemon_pid)
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
            finally:
                os._exit(0)
        theirs.close()
        ours.setblocking(False)
        server.pid, server.channel, server.lines, server.started_at = pid, ours, Lines(), self._loop.time()
        server.condition, server.reason = FileServerCondition.STARTING, None
        self._loop.add_reader(ours, self._read, server)
        self._tell_login(server)

    def _tell_login(self, server: LocalFileServer) -> None:
        login = server.login
        if server.channel is None or login is None or server.no_login:
            return
        told = {"name": login.name, "key": login.key, "allowed": login.allowed, "password": login.password}
        with suppress(OSError):
            server.channel.sendall(encode({"login": told}))

    def _read(self, server: LocalFileServer) -> None:
        assert server.channel is not None
        data = b""
        with suppress(OSError):
            data = server.channel.recv(_CHUNK)
        if not data:
            self._loop.remove_reader(server.channel)
            return  # Its end is seen as a child's end.
        for message in server.lines.feed(data):
            self._heard(server, message)
        self._on_changed()

    def _heard(self, server: LocalFileServer, message: Message) -> None:
        if "serving" in message:
            server.condition, server.reason = FileServerCondition.SERVING, None
            server.missing = message["serving"]["missing"]
        elif "starting" in message:
            server.condition = FileServerCondition.STARTING
            server.reason = _failed(server.name, message["starting"])
            print(server.reason.text, file=sys.stderr, flush=True)
        elif "noLogin" in message:
            server.no_login = message["noLogin"]
        elif "failed" in message:
            self._fail(server, message["failed"])

    def _fail(self, server: LocalFileServer, why: str) -> None:
        server.condition, server.reason = FileServerCondition.FAILED, _failed(server.name, why)
        print(server.reason.text, file=sys.stderr, flush=True)

    def _process_ended(self, server: LocalFileServer) -> None:
        assert server.channel is not None
        self._loop.remove_reader(server.channel)
        with suppress(OSError):
            while data := server.channel.recv(_CHUNK):
                for message in server.lines.feed(data):
                    self._heard(server, message)
        server.channel.close()
        server.pid, server.channel = 0, None
        if server.removing and not self._closing:
            self._forget(server)
        elif not self._closing:
            if self._loop.time() - server.started_at > _WELL_AFTER:
                server.restart_after = RESTART_FIRST
            self._start_later(server, "its process died; it is started again")
        self._on_changed()

    def _start_later(self, server: LocalFileServer, why: str) -> None:
        pause = server.restart_after
        server.restart_after = min(RESTART_LIMIT, pause * 2)
        if server.condition is not FileServerCondition.FAILED:
            server.condition, server.reason = FileServerCondition.STARTING, _failed(server.name, why)
        self._loop.call_later(pause, self._start, server)

    def _forget(self, server: LocalFileServer) -> None:
        self._servers.pop(server.uid, None)
        (self._layout.file_servers() / f"{server.uid}.json").unlink(missing_ok=True)
        shutil.rmtree(self._layout.file_servers() / server.uid, ignore_errors=True)
        log = self._layout.file_server_log(server.uid)
        for path in (log, log.with_suffix(".1.log")):
            path.unlink(missing_ok=True)


def _failed(name: str, why: str) -> Reason:
    return Reason(ReasonCode.FILE_SERVER_FAILED, f"The file server {name}: {why}.", {"fileServer": name})
