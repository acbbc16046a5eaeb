"""Logs of jobs whose place for them shows files only once they are closed: object storage through a mount.

They are written below the mount root, where the service can read them line by line. They get to their own place every
minute, and at once when the job ends.
"""

from __future__ import annotations

import os
import posixpath
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from trainshed.resources import directories
from trainshed.runner import trees
from trainshed.runner.claims import claim
from trainshed.runner.failure import directory_error
from trainshed.runner.ground import reset_child
from trainshed.runner.node import Node
from trainshed.runner.volume_holding import fork_away
from trainshed.volumes import shows_late

#: Seconds between two copies, and those that the last one may take.
_INTERVAL, _LAST_SECONDS = 60.0, 600.0
#: Bytes up to which a log is copied whenever it has grown. A longer one has to have grown by half.
_SMALL = 64 << 20
_PIECE = 1 << 20
#: What the child is asked for.
_SOON, _LAST = b"s", b"l"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Places:
    """Directories as the service's own user sees them; all are absolute."""

    #: Where the logs are kept, and a directory above that is the service's own: below it a link may be a job's.
    kept: str
    kept_root: str
    #: The same for where they belong, and the mount point on the way there.
    own: str
    own_root: str
    volume: str


class KeptLogs:
    """The logs of one attempt on one node. Made before the node's isolation, so that its child is outside of that."""

    def __init__(self, node: Node, places: Places) -> None:
        self._node = node
        self._places = places
        self._owner = os.geteuid() if node.spec.view is None else node.spec.view.user.uid
        self._line, theirs = socket.socketpair()
        fork_away(lambda: _serve(theirs, places, self._owner))
        theirs.close()
        self._waiting = 0
        self._gone = self._over = False
        node.loop.watch(self._line, self._heard)

    def start(self) -> None:
        """Make the directory and let the node's logs go there. Raises AttemptEnded."""
        node, kept = self._node, self._places.kept
        try:
            view = node.spec.view
            if view is not None:
                claim(view.shared, kept, node.spec.identity.segment, view.user)
            node.inside.make_directory(kept)
        except OSError as error:
            raise directory_error("stdOutErrPathPrefix", kept, error) from error
        node.stdouterr = kept
        node.log.write(
            f"standard output and error get to {node.environment['AZ_BATCHAI_STDOUTERR_DIR']} every {_INTERVAL:.0f} s "
            "and at the end: the volume shows files only once they are closed"
        )
        node.loop.after(_INTERVAL, self._again)

    def finish(self) -> None:
        """Copy all; nobody writes any more. The volume has yet to be flushed."""
        self._over = True
        self._ask(_LAST)
        if not self._node.loop.run_until(lambda: self._gone or not self._waiting, _LAST_SECONDS):
            self._node.log.write("the logs could not be written to their volume in time; the service keeps them")
        elif self._gone:
            for _ in copy_logs(self._places, self._owner, {}, last=True):
                pass
        self.close()

    def close(self) -> None:
        """No more copies."""
        self._over = True
        self._node.loop.unwatch(self._line)
        self._line.close()

    def drop(self) -> None:
        """All is where it belongs. The execution log, which goes on until the very end, stays."""
        with suppress(OSError):
            trees.empty(self._places.kept, {self._node.execution_log_name})

    def _again(self) -> None:
        if self._over:
            return
        if not self._waiting:
            self._ask(_SOON)
        self._node.loop.after(_INTERVAL, self._again)

    def _ask(self, how: bytes) -> None:
        try:
            self._line.sendall(how)
            self._waiting += 1
        except OSError:
            self._gone = True

    def _heard(self) -> None:
        data = b""
        with suppress(OSError):
            data = self._line.recv(64)
        self._waiting -= len(data)
        if not data:
            self._gone = True
            self._node.loop.unwatch(self._line)


def _serve(line: socket.socket, places: Places, owner: int) -> None:
    """The child's life: copy when asked, say so, until nobody can ask any more."""
    reset_child()
    os.closerange(3, line.fileno())
    os.closerange(line.fileno() + 1, 1 << 20)
    copied: dict[str, int] = {}
    while how := line.recv(1):
        with suppress(OSError):
            for path, size in copy_logs(places, owner, copied, last=how == _LAST):
                copied[path] = size
        line.sendall(how)


def kept_logs_of(node: Node) -> KeptLogs | None:
    """None where the job's place for logs shows them as they grow."""
    environment, spec = node.environment, node.spec
    own = posixpath.normpath(environment["AZ_BATCHAI_STDOUTERR_DIR"])
    volume, volume_root, late = "", "", False
    for root, own_root, sources in (
        (environment["AZ_BATCHAI_MOUNT_ROOT"], environment["AZ_BATCHAI_MOUNT_ROOT"], spec.cluster_volumes),
        (environment["AZ_BATCHAI_JOB_MOUNT_ROOT"], spec.directories.job_temp_root, spec.volumes),
    ):
        for source in sources:
            point = posixpath.normpath(f"{root}/{source.relative_path}")
            if directories.is_below(own, point) and len(point) >= len(volume):
                volume, volume_root, late = point, own_root, shows_late(source)
    if not late:
        return None
    shared = spec.view.shared if spec.view is not None else environment["AZ_BATCHAI_MOUNT_ROOT"]
    kept = f"{directories.kept_logs(shared, spec.identity.segment)}/{spec.node_index}"
    return KeptLogs(node, Places(kept, shared, own, volume_root, volume))


def copy_logs(places: Places, owner: int, copied: dict[str, int], *, last: bool) -> Iterator[tuple[str, int]]:
    """Copy regular files of this owner that have grown, with their folders; yields path and size of each.

    Neither side's links are followed: jobs can write to both.
    """
    with (
        _walk(places.kept_root, places.kept) as source,
        _walk(places.own_root, places.volume) as volume,
        _walk_on(volume, posixpath.relpath(places.own, places.volume)) as target,
    ):
        if source >= 0 and target >= 0:
            yield from _copy_folder(source, target, "", owner, copied, last)


@contextmanager
def _walk(root: str, path: str) -> Iterator[int]:
    """The directory below the root; -1 where there is none."""
    start = os.open(root, _FOLDER & ~os.O_NOFOLLOW)
    try:
        with _walk_on(start, posixpath.relpath(path, root), make=False) as found:
            yield found
    finally:
        os.close(start)


@contextmanager
def _walk_on(start: int, relative: str, *, make: bool = True) -> Iterator[int]:
    """From a directory to one below, made if need be; -1 where that is not to be had."""
    here = os.dup(start) if start >= 0 else -1
    for name in relative.split("/"):
        if here >= 0 and name != ".":
            here = _enter(here, name, make=make)
    try:
        yield here
    finally:
        if here >= 0:
            os.close(here)


def _enter(folder: int, name: str, *, make: bool) -> int:
    """Goes from a folder, which is closed, to one in it; -1 where there is none."""
    try:
        if make:
            with suppress(FileExistsError):
                os.mkdir(name, dir_fd=folder)
        # Without root's rights volumes are shown by links, and nobody else's are on the way.
        return os.open(name, _FOLDER if os.geteuid() == 0 else _FOLDER & ~os.O_NOFOLLOW, dir_fd=folder)
    except OSError:
        return -1
    finally:
        os.close(folder)


def _copy_folder(
    source: int, target: int, prefix: str, owner: int, copied: dict[str, int], last: bool
) -> Iterator[tuple[str, int]]:
    for name in sorted(os.listdir(source)):
        path = f"{prefix}{name}"
        with suppress(OSError):
            facts = os.stat(name, dir_fd=source, follow_symlinks=False)
            if stat.S_ISDIR(facts.st_mode):
                inner, made = _enter(os.dup(source), name, make=False), _enter(os.dup(target), name, make=True)
                if inner >= 0 and made >= 0:
                    yield from _copy_folder(inner, made, f"{path}/", owner, copied, last)
                for descriptor in (inner, made):
                    if descriptor >= 0:
                        os.close(descriptor)
            elif stat.S_ISREG(facts.st_mode) and is_due(facts.st_size, copied.get(path, -1), last):
                yield path, _copy_file(source, target, name, owner)


def is_due(size: int, before: int, last: bool) -> bool:
    """Whether a log of this size, of which ``before`` bytes were copied (-1: none), is copied now."""
    return size != before and (last or size <= _SMALL or size >= before * 1.5)


def _copy_file(source: int, target: int, name: str, owner: int) -> int:
    """How many bytes. Raises OSError."""
    reading = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=source)
    try:
        facts = os.fstat(reading)
        if not stat.S_ISREG(facts.st_mode) or facts.st_uid != owner:
            raise PermissionError(name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        writing = os.open(name, flags, 0o644, dir_fd=target)
        try:
            at = 0
            while at < facts.st_size and (piece := os.pread(reading, min(_PIECE, facts.st_size - at), at)):
                os.write(writing, piece)
                at += len(piece)
            return at
        finally:
            os.close(writing)
    finally:
        os.close(reading)
