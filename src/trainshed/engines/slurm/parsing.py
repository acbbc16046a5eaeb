"""What Slurm's tools print, as values. Tolerant: versions from 22.05 on add states and fields, none is lost by it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

#: Fields of ``squeue --Format``. Each has a size: without one, squeue cuts at 20 characters.
QUEUE_FORMAT = "JobArrayID:24,State:24,RestartCnt:12,StartTime:24,Comment:160,Reason:300,UserID:12"
_QUEUE_SIZES = tuple(int(part.rpartition(":")[2]) for part in QUEUE_FORMAT.split(","))
#: Fields of ``sinfo -N``; what may hold anything comes last.
NODES_FORMAT = "%N|%P|%l|%T|%o|%c|%m|%G|%E"
#: A job, or one element of a job array.
_JOB = r"\d+(_\d+)?"
ACCOUNTING_FORMAT = "JobID,State,ExitCode"

#: States in which Slurm has the job queued, or will run it once more.
QUEUED = frozenset({"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"})
#: States in which a job has ended for good. In any other, those of later versions included, something of it may live.
ENDED = frozenset(
    {
        "COMPLETED",
        "FAILED",
        "CANCELLED",
        "TIMEOUT",
        "NODE_FAIL",
        "PREEMPTED",
        "BOOT_FAIL",
        "DEADLINE",
        "OUT_OF_MEMORY",
        "REVOKED",
    }
)


@dataclass(frozen=True, slots=True)
class QueueLine:
    """One job."""

    #: Its number; of an element of an array the array's, "_" and its index.
    job: str
    #: In capitals, without what Slurm adds ("CANCELLED by 1000").
    state: str
    #: How often Slurm has started it again.
    restarts: int
    #: Unix ms; of a queued job when Slurm expects to start it. None when unknown.
    start: int | None
    comment: str
    reason: str
    #: Number of the Unix user whose it is; -1 when unknown.
    uid: int = -1

    @property
    def queued(self) -> bool:
        """Whether nothing of it runs, and something will."""
        return self.state in QUEUED

    @property
    def over(self) -> bool:
        """Whether it has ended for good."""
        return self.state in ENDED

    @property
    def alive(self) -> bool:
        """Whether something of it may live on nodes."""
        return not self.queued and not self.over


@dataclass(frozen=True, slots=True)
class NodeLine:
    """One node in one partition."""

    name: str
    #: With ``*`` when it is the default one; and the most minutes that a job may run there, None for no limit.
    partition: str
    minutes: int | None
    #: In small letters, without marks.
    state: str
    #: What sinfo adds to it: ``*`` does not answer, ``~`` is switched off, ``#`` is being switched on ...
    marks: str
    address: str
    cpus: int
    memory_mib: int
    gres: str
    reason: str


@dataclass(frozen=True, slots=True)
class AccountingLine:
    """What accounting knows of a job."""

    job: str
    state: str
    exit_code: int
    by: str


def parse_queue(text: str) -> list[QueueLine]:
    """Of ``squeue --noheader --Format QUEUE_FORMAT``; lines that are none are left out."""
    found = []
    for line in text.splitlines():
        parts, at = [], 0
        for size in _QUEUE_SIZES:
            parts.append(line[at : at + size].strip())
            at += size
        job, state, restarts, start, comment, reason, uid = parts
        if re.fullmatch(_JOB, job) and state:
            found.append(
                QueueLine(
                    job,
                    state_of(state),
                    _number(restarts),
                    time_of(start),
                    _given(comment),
                    _given(reason),
                    int(uid) if uid.isdigit() else -1,
                )
            )
    return found


def parse_nodes(text: str) -> list[NodeLine]:
    """Of ``sinfo --noheader --Node --format NODES_FORMAT``."""
    found = []
    for line in text.splitlines():
        parts = line.split("|", 8)
        if len(parts) != 9:
            continue
        name, partition, limit, state, address, cpus, memory, gres, reason = parts
        plain = re.match(r"[A-Za-z_+]+", state)
        found.append(
            NodeLine(
                name,
                partition,
                minutes_of(limit),
                plain[0].lower() if plain else "unknown",
                state[plain.end() :] if plain else "",
                address,
                _number(cpus),
                _number(memory),
                "" if gres == "(null)" else gres,
                "" if reason in ("none", "(null)") else reason,
            )
        )
    return found


def parse_accounting(text: str) -> list[AccountingLine]:
    """Of ``sacct --allocations --noheader --parsable2 --format ACCOUNTING_FORMAT``."""
    found = []
    for line in text.splitlines():
        parts = line.split("|")
        if len(parts) >= 3 and re.fullmatch(_JOB, parts[0]):
            by = re.fullmatch(r"CANCELLED by (\S+)", parts[1].strip())
            found.append(
                AccountingLine(parts[0], state_of(parts[1]), _number(parts[2].partition(":")[0]), by[1] if by else "")
            )
    return found


def parse_submitted(text: str) -> str:
    """The job's number from ``sbatch --parsable`` (``12`` or ``12;cluster``, perhaps after a plugin's chatter)."""
    for line in reversed(text.splitlines()):
        if found := re.fullmatch(r"(\d+)(;\S+)?", line.strip()):
            return found[1]
    return ""


def parse_version(text: str) -> tuple[int, int] | None:
    """From ``slurm-wlm 22.05.8`` or ``slurm 24.11.1``."""
    found = re.search(r"\b(\d{2})\.(\d{2})(?:\.|\b)", text)
    return (int(found[1]), int(found[2])) if found else None


def parse_config(text: str) -> dict[str, str]:
    """Of ``scontrol show config``."""
    return {
        name.strip(): value.strip()
        for name, equals, value in (line.partition("=") for line in text.splitlines())
        if equals
    }


def state_of(text: str) -> str:
    """``CANCELLED by 1000`` and ``RUNNING+`` are CANCELLED and RUNNING."""
    found = re.match(r"[A-Z_]+", text.strip().upper())
    return found[0] if found else "UNKNOWN"


def time_of(text: str) -> int | None:
    """Unix ms of a local time as Slurm writes it; None for N/A."""
    try:
        return round(datetime.fromisoformat(text).timestamp() * 1000)
    except ValueError:
        return None


def minutes_of(text: str) -> int | None:
    """Of a limit as Slurm writes it: ``7-00:00:00``, ``1:30:00``, ``30:00``; None for ``infinite``."""
    found = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text.strip())
    if found is None:
        return None
    days, hours, minutes, _ = (int(part or 0) for part in found.groups())
    return (days * 24 + hours) * 60 + minutes


def _given(text: str) -> str:
    return "" if text in ("(null)", "None", "N/A") else text


def _number(text: str) -> int:
    found = re.match(r"\d+", text.strip())
    return int(found[0]) if found else 0
