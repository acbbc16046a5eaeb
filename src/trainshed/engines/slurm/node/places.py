"""The directory that the service and Slurm's nodes share: what lies where, and how files in it are written.

It may be a network file system, whose clients cache what they have seen. So whoever waits for a file lists its folder
(which asks the server), a file appears as a whole by a rename, and what grows is read anew from its beginning.
"""

from __future__ import annotations

import json
import os
import stat
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Seconds between two looks at what the service says; more in a large gang, whose nodes all look at one file.
LOOK_AGAIN = 0.25
#: Claims in the name of no job: what is claimed so is carried out by none.
NOBODY = "nobody"
_ARRAY = "array-"
#: No file of these is larger; what belongs to a job's user may be anything.
_MOST_BYTES = 1 << 28


@dataclass(frozen=True, slots=True)
class Ticket:
    """The folder of one job of Slurm's. When Slurm starts it once more, that run belongs to another attempt.

    It belongs to the user whom the job runs as; what the engine keeps lies beside it.
    """

    folder: Path

    @property
    def record(self) -> Path:
        """What the engine knows of it."""
        return self.folder.with_name(f"{self.folder.name}.json")

    @property
    def claim(self) -> Path:
        """Holds the number of the job that may use the ticket: whoever comes first, and nobody else."""
        return self.folder / "claimed"

    @property
    def fence(self) -> Path:
        """Holds the highest run that has begun: whatever is left of an earlier one has to end."""
        return self.folder / "fence"

    @property
    def output(self) -> Path:
        """What the script itself says."""
        return self.folder / "output.txt"

    def order(self, run: int) -> Path:
        """What the run is to carry out."""
        return self.folder / f"run-{run}.json"

    def private(self, run: int) -> Path:
        """Secrets of the run, for the owner only; the run removes it when it has read it."""
        return self.folder / f"run-{run}.private"


@dataclass(frozen=True, slots=True)
class Submission:
    """The folder that the comment of a job of Slurm's names: its ticket's, or that of its job array."""

    folder: Path

    @property
    def elements(self) -> Path:
        """Of an array: ``tickets``, each at the index of its element; what they are ``alike``; the array's ``job``."""
        return self.folder / "elements.json"

    def carried(self, job: str) -> Path:
        """Holds the ticket that this job carries out now, from the moment it begins; ``NOBODY`` when it must not."""
        return self.folder / f"carried-{job}"

    def output(self, job: str) -> Path:
        """What the script of this job says."""
        _, element, index = job.partition("_")
        return self.folder / (f"output-{index}.txt" if element else "output.txt")


@dataclass(frozen=True, slots=True)
class AttemptFolder:
    """The folder of one attempt; the same holds for it."""

    folder: Path

    @property
    def record(self) -> Path:
        """What the engine knows of it."""
        return self.folder.with_name(f"{self.folder.name}.json")

    @property
    def told(self) -> Path:
        """Stops and warnings for its runners, a line of JSON each."""
        return self.folder / "told.jsonl"

    @property
    def heard(self) -> Path:
        """The same, as Slurm's own warning reaches the job's script."""
        return self.folder / "heard.jsonl"

    @property
    def hosts(self) -> Path:
        """Its nodes and its start, written by the first of them when it starts."""
        return self.folder / "hosts.json"

    @property
    def launcher(self) -> Path:
        """What starts the ranks of MPI where ``srun`` does, written by its first node."""
        return self.folder / "launcher.json"

    @property
    def code(self) -> Path:
        """The files of its code snapshot."""
        return self.folder / "code"

    @property
    def shared(self) -> Path:
        """AZ_BATCHAI_SHARED_JOB_TEMP of a gang of several nodes."""
        return self.folder / "shared"

    def state(self, index: int) -> Path:
        """State directory of the runner of this node."""
        return self.folder / str(index)

    def alive(self, index: int) -> Path:
        """Touched again and again by the node while its runner lives."""
        return self.state(index) / "alive"

    def signalled(self, index: int) -> Path:
        """There when Slurm has asked the node's processes to end."""
        return self.state(index) / "signalled"


@dataclass(frozen=True, slots=True)
class Places:
    """The shared directory of one engine of one service."""

    root: Path

    @property
    def leader(self) -> Path:
        """Under which lease the engine was last used."""
        return self.root / "leader.json"

    @property
    def clusters(self) -> Path:
        """A folder each cluster."""
        return self.root / "clusters"

    @property
    def tickets(self) -> Path:
        """A folder each job of Slurm's."""
        return self.root / "jobs"

    @property
    def attempts(self) -> Path:
        """A folder each attempt that is not forgotten."""
        return self.root / "attempts"

    @property
    def runners(self) -> Path:
        """What travels with jobs, a folder for each state of it."""
        return self.root / "runner"

    @property
    def arrays(self) -> Path:
        """A folder each job array of Slurm's."""
        return self.root / "arrays"

    @property
    def waiting(self) -> Path:
        """A folder for each kind of job that waits, with an empty file for each ticket, the oldest first by name."""
        return self.root / "waiting"

    def submission(self, name: str) -> Submission:
        """By what the comment of a job names."""
        return Submission((self.arrays if is_array(name) else self.tickets) / name)

    def cluster(self, uid: str) -> Path:
        """What the engine knows of a cluster."""
        return self.clusters / uid / "cluster.json"

    def mount_root(self, uid: str) -> Path:
        """AZ_BATCHAI_MOUNT_ROOT of a cluster."""
        return self.clusters / uid / "mounts"

    def ticket(self, ticket_id: str) -> Ticket:
        """By id."""
        return Ticket(self.tickets / ticket_id)

    def attempt(self, attempt_id: str) -> AttemptFolder:
        """By id."""
        return AttemptFolder(self.attempts / attempt_id)

    def make(self, *, passable: bool = False) -> None:
        """Make the folders, for the owner only; ``passable``: others get through to what is theirs. Raises OSError."""
        theirs = (self.root, self.clusters, self.tickets, self.attempts, self.runners)
        for folder in (*theirs, self.arrays, self.waiting):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if passable and folder in theirs:
                folder.chmod(stat.S_IMODE(folder.stat().st_mode) | 0o111)


def is_array(name: str) -> bool:
    """Whether the comment of a job that names this is that of a job array."""
    return name.startswith(_ARRAY)


def array_name(unique: str) -> str:
    """Of a new array."""
    return f"{_ARRAY}{unique}"


def claim(path: Path, job: str, of: str = "") -> bool:
    """Whether the file is this job's now, since nobody had it. ``of``: what its comment names. Raises OSError."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w") as out:
        out.write(json.dumps({"job": job, "of": of}))
    return True


def claimant(path: Path) -> tuple[str, str]:
    """The job that claimed it and what its comment names; empty while nobody did."""
    found = read(path)
    return (str(found.get("job", "")), str(found.get("of", ""))) if isinstance(found, dict) else ("", "")


def write(path: Path, value: Any, *, durable: bool = False) -> None:
    """Replace the file as a whole. Mode 0600; ``durable``: it survives a power cut. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as out:
        out.write(json.dumps(value, separators=(",", ":")))
        if durable:
            out.flush()
            os.fsync(out.fileno())
    temporary.replace(path)
    if durable:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def read(path: Path) -> Any:
    """What ``write`` wrote, or None when there is none (or it is damaged)."""
    with suppress(OSError, ValueError, RecursionError):
        return json.loads(_text(path))
    return None


def is_there(path: Path) -> bool:
    """Whether the file is there now, whatever this machine has cached of an earlier look."""
    with suppress(OSError):
        return path.name in os.listdir(path.parent)  # noqa: PTH208 - the listing is what asks the server
    return False


def append(path: Path, value: Any) -> None:
    """Add a line to a file that one process writes. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, json.dumps(value, separators=(",", ":")).encode() + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lines(path: Path) -> list[Any]:
    """The complete lines of such a file; none when it is not there."""
    try:
        text = _text(path)
    except OSError:
        return []
    return [json.loads(line) for line in text.split("\n")[:-1]]


def end_of(path: Path, limit: int) -> str:
    """The last so many bytes of a text. Raises OSError."""
    with open(_opened(path), "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - limit))
        return file.read(limit).decode(errors="replace")


def _text(path: Path) -> str:
    with open(_opened(path), encoding="utf-8") as file:
        if os.fstat(file.fileno()).st_size > _MOST_BYTES:
            raise OSError(27, "it is too large to be of the engine", str(path))
        return file.read(_MOST_BYTES)


def _opened(path: Path) -> int:
    """A descriptor. Raises OSError, also for a pipe, at which a reader would wait for ever, and for a link."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(22, "it is no file", str(path))
    return descriptor
