"""Decides when an attempt is over, from the ends of its processes and the words of its MPI ranks. No I/O.

An attempt succeeds when all essential processes ended with 0 and, under an MPI launcher, every rank said 0 itself:
``mpirun`` alone is not believed (frameworks.md section 6). It fails with the first exit code that is not 0; a rank's
own code wins over the launcher's, and that of a rank which ended by itself over those that were asked to.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from enum import IntEnum

from trainshed.resources.reasons import ReasonCode
from trainshed.runner.failure import SIGNALLED, SUCCEEDED, AttemptEnded, failed, how_it_ended, job_failed
from trainshed.runner.spec import HostSpec, Outcome
from trainshed.toolkits.launch import LaunchPlan
from trainshed.toolkits.placing import places

#: Seconds that a launcher gets to end by itself after one of its ranks failed (MPICH hangs instead).
LAUNCHER_SECONDS = 2.0
#: Seconds in which the ranks' words must arrive after the launcher ended.
WORDS_SECONDS = 5.0

#: How a process ends that was asked to: a consequence, not the cause.
_TERMINATED = SIGNALLED + signal.SIGTERM
#: Ends that are nobody's consequence: a launcher that kills kills the wrapper too, and then there is no word.
_FATAL = frozenset(
    SIGNALLED + number for number in (signal.SIGKILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE)
)
#: MPI_ERR_UNKNOWN, _OTHER and _INTERN: Open MPI ends a rank so whose connection to another broke, and this rank's word
#: may come before that of the other, since the kernel closes a process's sockets before it tells the parent.
_BROKEN_CONNECTION = frozenset({14, 16, 17})


class _Part(IntEnum):
    """What a rank that failed has to do with the failure of the job, the likeliest culprit first."""

    FATAL = 0
    BY_ITSELF = 1
    BROKEN_CONNECTION = 2
    FOLLOWED = 3


def _part(code: int, asked: bool) -> _Part:
    if code in _FATAL:
        return _Part.FATAL
    if asked or code == _TERMINATED:
        return _Part.FOLLOWED
    return _Part.BROKEN_CONNECTION if code in _BROKEN_CONNECTION else _Part.BY_ITSELF


class Supervisor:
    """The state of an attempt's processes over all nodes, kept by the runner of the master node."""

    def __init__(self, plan: LaunchPlan, hosts: Sequence[HostSpec]) -> None:
        self._hosts = hosts
        self._essential = {(p.host, p.role, p.index) for p in plan.processes if p.essential}
        self._count = len(plan.processes)
        self._stderr = {(p.host, p.role, p.index): p.stderr for p in plan.processes}
        self._ranks, self._slots, self._rank_stderr = plan.mpi_ranks, plan.slots, plan.rank_stderr
        self._words: dict[int, int] = {}
        #: (likeliness to be a consequence, exit code, details) of what failed, in order of arrival.
        self._failed_ranks: list[tuple[_Part, int, dict[str, str]]] = []
        self._failed_launcher: tuple[int, dict[str, str]] | None = None
        #: (host, exit code) of the first of MPI's daemons that failed.
        self._failed_daemon: tuple[int, int] | None = None

    def process_ended(self, host: int, role: str, index: int, code: int) -> float | None:
        """A process ended. Seconds after which ``time_is_up`` must be called, or None.

        Raises AttemptEnded when that ends the attempt.
        """
        self._essential.discard((host, role, index))
        if code != 0:
            failure = (code, self._details(host, role, index))
            if not self._ranks:
                raise job_failed(*failure)
            self._failed_launcher = failure
            # The rank that caused it may speak a moment later than the launcher.
            return self._after_launcher()
        return self._after_launcher()

    def rank_ended(self, rank: int, host: int, code: int, *, asked: bool = False) -> float | None:
        """A rank said how it ended, and whether the launcher had asked it to. As process_ended."""
        self._words[rank] = code
        if code != 0:
            details = {**self._details(host, "rank", rank), "rank": str(rank)}
            self._failed_ranks.append((_part(code, asked), code, details))
        if not self._essential:
            return self._after_launcher()
        return LAUNCHER_SECONDS if code != 0 else None

    def daemon_ended(self, host: int, code: int) -> float | None:
        """MPI's daemon on that host ended with another code than 0. As process_ended.

        The launcher ends its daemons so, just before it ends itself; one that goes on has lost the ranks of that host.
        """
        self._failed_daemon = self._failed_daemon or (host, code)
        return WORDS_SECONDS

    def time_is_up(self) -> None:
        """Nothing more is waited for. Raises AttemptEnded."""
        cause = self._cause()
        if cause is not None:
            raise job_failed(*cause)
        missing = sorted(set(range(self._ranks)) - self._words.keys())
        if not missing:
            return  # One of MPI's daemons ended badly after all its ranks had ended well: mpirun's end decides.
        nodes = sorted({place.host for place in places(self._slots) if place.rank in missing})
        names = ", ".join(self._hosts[host].name for host in nodes)
        told = "mpirun ended with exit code 0, but"
        if self._failed_daemon is not None:
            host, code = self._failed_daemon
            told = f"MPI's daemon on {self._hosts[host].name} {how_it_ended(code)}:"
        raise failed(
            ReasonCode.JOB_RANK_FAILED,
            f"{told} {len(missing)} of {self._ranks} ranks never said that they ended (ranks "
            f"{', '.join(map(str, missing))} on {names}): they were killed, or the launcher lost their node. "
            f"See {self._any_stderr}, and run the job again.",
            {"ranks": ",".join(map(str, missing)), "nodes": names.replace(" ", ""), "stdErrFile": self._any_stderr},
            exit_code=1,
        )

    def _after_launcher(self) -> float | None:
        if self._essential:
            return None
        if self._ranks and len(self._words) < self._ranks:
            return LAUNCHER_SECONDS if self._cause() is not None else WORDS_SECONDS
        cause = self._cause()
        if cause is not None:
            raise job_failed(*cause)
        raise AttemptEnded(Outcome(SUCCEEDED, 0))

    def _cause(self) -> tuple[int, dict[str, str]] | None:
        """The failure to blame: the first of the likeliest ranks; the launcher where ranks only followed."""
        part, code, details = min(self._failed_ranks, key=lambda failure: failure[0], default=(None, 0, {}))
        if part is None or (part is _Part.FOLLOWED and self._failed_launcher is not None):
            return self._failed_launcher
        return code, details

    def _details(self, host: int, role: str, index: int) -> dict[str, str]:
        if self._count == 1 and not self._ranks and len(self._hosts) == 1:
            return {}
        process = f"{role} {index}" if role == "rank" or not self._ranks else "mpirun"
        details = {"process": process, "node": self._hosts[host].name, "nodeId": self._hosts[host].node_id}
        if role == "rank" and self._rank_stderr:
            return {**details, "stdErrFile": self._rank_stderr.format(index)}
        # A rank writes where the launcher's output goes, which is the only process that the plan has then.
        return {**details, "stdErrFile": self._stderr.get((host, role, index)) or self._any_stderr}

    @property
    def _any_stderr(self) -> str:
        return next(iter(self._stderr.values()), "")
