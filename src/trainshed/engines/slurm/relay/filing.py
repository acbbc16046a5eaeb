"""What nodes tell the service, put where the engine and the users look for it: into the engine's own directory.

Each method is of one job of Slurm's (a ticket), and may be repeated: an answer that was lost is asked for again.
Methods block, and raise OSError; ``Turned`` tells a node that its run has no part in the job any more.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from trainshed.engines.slurm.delivery import archive_of
from trainshed.engines.slurm.node import places
from trainshed.engines.slurm.node.places import NOBODY, AttemptFolder, Places, Ticket
from trainshed.engines.slurm.records import Records, TicketRecord
from trainshed.runner import outcome as outcomes
from trainshed.runner.code import blob_path
from trainshed.runner.failure import LOST
from trainshed.runner.spec import Outcome
from trainshed.runner.volume_places import Base, open_place

#: Seconds that a node which has to end may take beyond its lease (``watch``: 15 until it kills the runner).
LEASE_MARGIN = 25.0
#: What makes a path one that no file can have, or none now that earlier attempts have written there.
_CANNOT_BE = (errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.EINVAL, errno.EILSEQ, errno.ENXIO)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
#: Bytes that stay free on the service's disk.
_SPARE = 256 << 20
_LIMIT = 64 << 10
#: Times of calls that are kept, those of jobs that are not over aside.
_REMEMBERED = 4096


class Turned(Exception):
    """The run has no part in the job: another one has it, or it is over."""


class Full(Exception):
    """The service's disk has no room."""


class Filing:
    """Of one engine."""

    def __init__(self, root: Places, records: Records, lease: float) -> None:
        self._root = root
        self._records = records
        self._lease = lease
        self._lock = threading.Lock()
        #: Monotonic seconds at which a run was first asked for, by ticket and run.
        self._asked: dict[tuple[str, int], float] = {}
        #: The same of when a node was last heard of, by ticket, run and index.
        self._beats: dict[tuple[str, int, int], float] = {}

    def ticket(self, ticket_id: str) -> TicketRecord | None:
        """The job of Slurm's that this names, while it is not over."""
        return self._records.tickets.get(ticket_id)

    def begin(self, record: TicketRecord, job: str, run: int) -> dict[str, Any] | str:
        """What the run is to carry out and its secrets, or why it has to wait. Raises Turned."""
        place = self._root.ticket(record.ticket)
        self._claim(place, job)
        order = self._current(place, run)
        if order is None:
            return "the service has not said yet what it is to do"
        with self._lock:
            if int(places.read(place.fence) or 0) < run:
                places.write(place.fence, run, durable=True)
        self._forget_what_is_over()
        since = self._asked.setdefault((record.ticket, run), time.monotonic())
        former = order.get("former")
        # Nobody of the former run goes on without asking the service or Slurm for so long.
        if former is not None and time.monotonic() - since < self._lease + LEASE_MARGIN:
            left = [index for index in range(former["nodes"]) if not self._is_over(former["attempt_id"], index)]
            if left:
                return f"{len(left)} nodes of the run before have not ended"
        return {"order": order, "secret": places.read(place.private(run)) or {}}

    def _forget_what_is_over(self) -> None:
        known = self._records.tickets
        if len(self._asked) > _REMEMBERED:
            self._asked = {key: at for key, at in list(self._asked.items()) if key[0] in known}
        if len(self._beats) > _REMEMBERED:
            self._beats = {key: at for key, at in list(self._beats.items()) if key[0] in known}

    def _claim(self, place: Ticket, job: str) -> None:
        name = place.folder.name
        carried = self._root.submission(name).carried(job)
        try:
            places.claim(carried, job, name)
            taken = places.claim(place.claim, job, name)
        except FileNotFoundError:
            raise Turned("the ticket was given up") from None
        if NOBODY in places.claimant(carried):
            raise Turned("nobody wants it any more")
        holder = places.claimant(place.claim)[0]
        if not taken and holder != job:
            raise Turned(f"job {holder} has this ticket")

    def _current(self, place: Ticket, run: int) -> dict[str, Any] | None:
        """The order of a run that no later one has replaced; None when there is none yet. Raises Turned."""
        if int(places.read(place.fence) or 0) > run:
            raise Turned("a later run of the job has begun")
        found = places.read(place.order(run))
        return dict(found) if found is not None else None

    def _attempt(self, record: TicketRecord, run: int) -> tuple[AttemptFolder, dict[str, Any]]:
        """Raises Turned."""
        place = self._root.ticket(record.ticket)
        order = self._current(place, run)
        if order is None:
            raise Turned("the run was never ordered")
        return self._root.attempt(order["spec"]["attempt_id"]), order

    def _is_over(self, attempt_id: str, index: int) -> bool:
        return (self._root.attempt(attempt_id).state(index) / "over").exists()

    def hosts(self, record: TicketRecord, run: int, hosts: Mapping[str, Any]) -> None:
        """Where it runs; it has its secrets."""
        attempt, _ = self._attempt(record, run)
        places.write(attempt.hosts, dict(hosts), durable=True)
        self._root.ticket(record.ticket).private(run).unlink(missing_ok=True)

    def beat(self, record: TicketRecord, run: int, index: int, told: int, heard: int) -> dict[str, Any]:
        """A node lives; what it was not told yet. Raises Turned."""
        attempt, _ = self._attempt(record, run)
        self._beats[record.ticket, run, index] = time.monotonic()
        return {"told": places.lines(attempt.told)[told:], "heard": places.lines(attempt.heard)[heard:]}

    def heard(self, record: TicketRecord, run: int, message: Mapping[str, Any]) -> None:
        """What Slurm told the script alone, for all nodes."""
        attempt, _ = self._attempt(record, run)
        with self._lock:
            places.append(attempt.heard, dict(message))

    def said(self, record: TicketRecord, text: str) -> None:
        """Why a job can carry out nothing."""
        with open(self._root.ticket(record.ticket).output, "a") as out:
            if out.tell() < _LIMIT:
                out.write(text[:_LIMIT])

    def code(self, record: TicketRecord, run: int, digest: str) -> Path | None:
        """A file of the job's code, by its content."""
        attempt, order = self._attempt(record, run)
        wanted = {entry["sha256"] for entry in (order["spec"].get("code_manifest") or {}).values()}
        return Path(blob_path(str(attempt.code), digest)) if digest in wanted else None

    def runner(self, digest: str) -> Path:
        """What travels with jobs, by its content; ``digest`` is one that was looked at."""
        return archive_of(self._root, digest)

    def file(
        self, record: TicketRecord, run: int, path: str, offset: int, mode: int, data: bytes, *, last: bool
    ) -> None:
        """A piece of a file below the cluster's mount root; the last one says how long the file is.

        Raises Turned, Full, ValueError for what can be no file there.
        """
        self._attempt(record, run)
        root, pure = self._root.mount_root(record.cluster_uid), _relative(path)
        if shutil.disk_usage(root).free < _SPARE + len(data):
            raise Full
        try:
            self._write(root, pure, offset, mode, data, last=last)
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise Full from error
            if error.errno in _CANNOT_BE:
                raise ValueError(f"{path!r} can be no file there: {error.strerror}") from error
            raise

    def _write(self, root: Path, pure: PurePosixPath, offset: int, mode: int, data: bytes, *, last: bool) -> None:
        folder = open_place(Base(str(root)), str(pure.parent) if pure.parent.parts else "")
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(pure.name, flags, 0o644, dir_fd=folder)
        finally:
            os.close(folder)
        try:
            view = memoryview(data)
            while view:
                written = os.pwrite(descriptor, view, offset)
                offset, view = offset + written, view[written:]
            if last:
                os.ftruncate(descriptor, offset)
                os.fchmod(descriptor, 0o644 | (mode & 0o111))
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def logs(self, record: TicketRecord, run: int, path: str) -> dict[str, int]:
        """Sizes of the files below a folder of logs, by their paths in it: what earlier attempts wrote stays there.

        Raises Turned, ValueError.
        """
        self._attempt(record, run)
        folder = self._root.mount_root(record.cluster_uid) / _relative(path)
        return {str(one.relative_to(folder)): one.stat().st_size for one in folder.rglob("*") if one.is_file()}

    def outcome(
        self, record: TicketRecord, run: int, index: int, outcome: Mapping[str, Any] | None, *, signalled: bool
    ) -> bool:
        """Nothing of the attempt lives on the node any more, and how it ended there, if its runner could say.

        False asks the first node, whose word is the gang's, to say so again: others have something to send yet.
        """
        place = self._root.ticket(record.ticket)
        order = places.read(place.order(run))
        attempt = self._root.attempt(order["spec"]["attempt_id"]) if order is not None else None
        if attempt is None or not attempt.folder.is_dir():
            raise Turned("the attempt is forgotten")
        fenced = int(places.read(place.fence) or 0) > run
        lost = outcome is None or outcome["result"] == LOST
        if index == 0 and not fenced and not lost and self._others_send(record, run, order["spec"]["attempt_id"]):
            return False
        state = attempt.state(index)
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        if signalled:
            attempt.signalled(index).touch(0o600)
        if outcome is not None and not (state / outcomes.FILE_NAME).exists():
            outcomes.write(str(state), Outcome.from_dict(dict(outcome)))
        (state / "over").touch(0o600)
        return True

    def _others_send(self, record: TicketRecord, run: int, attempt_id: str) -> bool:
        """Whether another node lives, as far as is known, and has not said that it has done."""
        hosts = (places.read(self._root.attempt(attempt_id).hosts) or {}).get("hosts") or ()
        now = time.monotonic()
        since = self._beats.setdefault((record.ticket, run, -1), now)
        return any(
            not self._is_over(attempt_id, other)
            and now - max(since, self._beats.get((record.ticket, run, other), since)) < self._lease
            for other in range(1, len(hosts))
        )


def _relative(path: str) -> PurePosixPath:
    """Raises ValueError."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts or "\0" in path:
        raise ValueError(f"{path!r} is no path below the mount root")
    return pure
