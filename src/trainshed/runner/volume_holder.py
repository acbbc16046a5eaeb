"""The process that mounts managed volumes and holds them, outside of everything that jobs can see or end.

It has a mount namespace of its own, in which drivers mount and their daemons run. What is mounted there is shown at its
final path, in the namespace that the holder came from, by a clone of it. So the holder's end leaves no daemon and no
mount of a driver's.

It lives until it is told to end, or until whoever started it is dead: what was written is then flushed all the same.
Messages: to it ``{"end": true}``; from it ``{"log": text}``, ``{"mounted": reason or null}``, ``{"ended": [reasons]}``.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.resources.users import JobUser
from trainshed.resources.volume_sources import VolumeSource
from trainshed.runner import linux, volume_places
from trainshed.runner.volume_places import Base
from trainshed.volumes import FLUSH_SECONDS, Mounted, MountRequest, VolumeError, mount_managed, safe_path
from trainshed.volumes.directory import MountedDirectory
from trainshed.volumes.unmanaged import is_mounted

_CONNECTIONS = "/sys/fs/fuse/connections"
_SCRATCH_SIZE = "size=64m,mode=0700"
_HOW_TO_SHOW = (
    "The service must run as root for that, on a file system that can show files as another user's (ext4, xfs, btrfs; "
    "idmapped mounts, mount_setattr(2)). See `trainshed doctor`."
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """The volumes of one job or cluster on one node."""

    sources: tuple[VolumeSource, ...]
    #: Opened secrets by JSON pointer.
    secrets: Mapping[str, str] = field(repr=False)
    base: Base
    #: Whose the files are; None: the service's own user's.
    user: JobUser | None
    #: A folder for what is in memory, and one on disk that the same volumes get again; both the service's own.
    folder: str
    cache: str
    #: The node's name.
    node: str


@dataclass(slots=True)
class _Held:
    source: VolumeSource
    mounted: Mounted
    #: The cloned tree that shows it, or -1 for a symbolic link.
    tree: int


def hold(wanted: Wanted, line: socket.socket) -> None:
    """The holder's life, in a fresh fork. Never returns."""
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.closerange(3, line.fileno())
        os.closerange(line.fileno() + 1, 1 << 20)
        os.chdir("/")
        os.umask(0o077)
        _Holder(wanted, line).live()
    finally:
        os._exit(0)


class _Holder:
    def __init__(self, wanted: Wanted, line: socket.socket) -> None:
        self._wanted = wanted
        self._line = line
        self._held: list[_Held] = []
        #: The namespace where volumes are shown, and the holder's own; -1 where it has none of its own.
        self._shown_in = self._own = -1

    def live(self) -> None:
        reason = self._guarded(self._mount_all)
        if reason is not None:
            self._end()
            self._tell({"mounted": reason.to_json()})
            return
        self._tell({"mounted": None})
        with suppress(OSError):
            self._line.recv(1024)
        self._tell({"ended": [told.to_json() for told in self._end()]})

    def _mount_all(self) -> None:
        self._own_namespace()
        for number, source in enumerate(self._wanted.sources):
            request = self._request(number, source)
            self._log(f"mounting {source.title} at {source.relative_path}")
            relative = safe_path(source)
            mounted = mount_managed(request)
            held = _Held(source, mounted, -1)
            self._held.append(held)
            self._show(request, held, relative)

    def _own_namespace(self) -> None:
        """Where that is not permitted, drivers do what they can without."""
        folder = self._wanted.folder
        Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.geteuid() != 0:
            return
        shown_in = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        try:
            linux.unshare(linux.CLONE_NEWNS)
            linux.mount("none", "/", None, linux.MS_REC | linux.MS_PRIVATE)
            linux.mount("none", folder, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC, _SCRATCH_SIZE)
        except OSError as error:
            self._log(f"volumes are mounted without a namespace of their own: {error.strerror}")
            os.close(shown_in)
            return
        self._shown_in = shown_in
        self._own = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        if not is_mounted(_CONNECTIONS):
            with suppress(OSError):
                linux.mount("none", _CONNECTIONS, "fusectl", 0)

    def _request(self, number: int, source: VolumeSource) -> MountRequest:
        wanted = self._wanted
        uid = wanted.user.uid if wanted.user else os.geteuid()
        identity = json.dumps([source.kind, dict(source.settings), wanted.base.below == "", uid], sort_keys=True)
        folder = f"{wanted.folder}/{number}"
        target = f"{folder}/mount"
        Path(target).mkdir(mode=0o700, parents=True, exist_ok=True)
        return MountRequest(
            source=source,
            secrets=wanted.secrets,
            uid=uid,
            gid=wanted.user.uid if wanted.user else os.getegid(),
            target=target,
            folder=folder,
            cache=f"{wanted.cache}/{hashlib.sha256(identity.encode()).hexdigest()[:16]}",
            shared=f"{wanted.cache}/shared",
            node=wanted.node,
            log=self._log,
        )

    def _show(self, request: MountRequest, held: _Held, relative: str) -> None:
        directory = os.path.realpath(held.mounted.directory)
        try:
            if self._own < 0:
                volume_places.link(directory, self._wanted.base, relative)
                return
            tree = linux.clone_tree(held.mounted.directory, recursive=False)
            user, owner = self._wanted.user, _owner(held.mounted)
            if owner is not None and user is not None:
                with volume_places.shown_as(user, *owner) as users:
                    linux.map_ids(tree, users)
            read_only = linux.MOUNT_ATTR_RDONLY if held.mounted.read_only else 0
            linux.restrict_mounts(tree, read_only | linux.MOUNT_ATTR_NOSUID | linux.MOUNT_ATTR_NODEV)
            with self._where_shown():
                place = volume_places.open_place(self._wanted.base, relative)
                try:
                    linux.attach_tree(tree, place)
                finally:
                    os.close(place)
            held.tree = tree
        except OSError as error:
            hint = _HOW_TO_SHOW if _owner(held.mounted) is not None else "Look at what lies at that path."
            what = f"it cannot be shown there: {error.strerror} {error.filename or ''}".rstrip()
            raise request.error(what, hint=hint) from error

    @contextmanager
    def _where_shown(self) -> Any:
        linux.enter_namespace(self._shown_in, linux.CLONE_NEWNS)
        try:
            yield
        finally:
            linux.enter_namespace(self._own, linux.CLONE_NEWNS)

    def _end(self) -> list[Reason]:
        """Flush and unmount all, the last one first. What went wrong."""
        reasons = []
        for held in reversed(self._held):
            for step in (lambda one=held: one.mounted.flush(FLUSH_SECONDS), lambda one=held: self._hide(one),
                         held.mounted.unmount):  # fmt: skip
                reason = self._guarded(step)
                if reason is not None:
                    reasons.append(reason)
        self._held.clear()
        return reasons

    def _hide(self, held: _Held) -> None:
        if held.tree >= 0:
            with self._where_shown():
                volume_places.hide(held.tree)
        elif self._own < 0:
            directory = os.path.realpath(held.mounted.directory)
            volume_places.unlink(directory, self._wanted.base, safe_path(held.source))

    def _guarded(self, act: Callable[[], None]) -> Reason | None:
        try:
            act()
        except VolumeError as error:
            return error.reason
        except Exception as error:
            text = f"A volume of node {self._wanted.node} met an error that its driver does not know: {error!r}."
            return Reason(ReasonCode.VOLUME_MOUNT_FAILED, text, {"node": self._wanted.node})
        return None

    def _log(self, text: str) -> None:
        self._tell({"log": text})

    def _tell(self, message: Mapping[str, Any]) -> None:
        """Whoever started the holder may be dead."""
        with suppress(OSError):
            self._line.sendall(json.dumps(message, separators=(",", ":")).encode() + b"\n")


def _owner(mounted: Mounted) -> tuple[int, int] | None:
    """User and group of the machine whose files are to be shown as the job's user's."""
    if isinstance(mounted, MountedDirectory):
        return mounted.owner
    return (os.geteuid(), os.getegid()) if mounted.service_owned else None


def titles(sources: Iterable[VolumeSource]) -> str:
    """Their names, for people."""
    return ", ".join(source.title for source in sources)
