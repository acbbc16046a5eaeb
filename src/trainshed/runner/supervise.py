"""Decides when an attempt is over, from the ends of its processes and the words of its ranks. No I/O.

An attempt succeeds when all essential processes ended with 0 and, where MPI or torchrun starts the ranks, every rank
said 0 itself: launchers alone are not believed (frameworks.md section 6), nor waited for when their ranks are all done.
It fails with the first exit code that is not 0; a rank's own code wins over the launcher's, and that of a rank which
ended by itself over those that were asked to. torchrun may start failed ranks again: its agents say when it gives up.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import NamedTuple

from trainshed.resources.reasons import ReasonCode
from trainshed.runner.failure import SIGNALLED, SUCCEEDED, AttemptEnded, failed, how_it_ended, job_failed
from trainshed.runner.spec import HostSpec, Outcome
from trainshed.toolkits.launch import LaunchPlan
from trainshed.toolkits.placing import places

#: Seconds that a launcher gets to end by itself after one of its ranks failed (MPICH hangs instead).
LAUNCHER_SECONDS = 2.0
#: Seconds in which the ranks' words must arrive after the launcher ended.
WORDS_SECONDS = 5.0
#: Seconds that ``mpirun`` gets to end by itself after all its ranks ended with 0. It needs about 0.1.
LAST_SECONDS = 10.0

#: How a process ends that was asked to: a consequence, not the cause.
_TERMINATED = SIGNALLED + signal.SIGTERM
#: Ends that are nobody's consequence: a launcher that kills kills the wrapper too, and then there is no word.
_FATAL = frozenset(
    SIGNALLED + number for number in (signal.SIGKILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE)
)
#: MPI_ERR_UNKNOWN, _OTHER and _INTERN: Open MPI ends a rank so whose connection to another broke, and this rank's word
#: may come before that of the other, since the kernel closes a process's sockets before it tells the parent.
_BROKEN_CONNECTION = frozenset({14, 16, 17})


class Wait(NamedTuple):
    """After so many ``seconds`` ``then`` must be called, unless the attempt is over by that time."""

    seconds: float
    #: Raises AttemptEnded, or does nothing if what was waited for has come.
    then: Callable[[], None]


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


def _launcher(plan: LaunchPlan) -> str:
    """What starts the ranks, for people."""
    if plan.launched_by_engine:
        return "the engine's launcher"
    return "mpirun" if plan.mpi_ranks else "torchrun"


class Supervisor:
    """The state of an attempt's processes over all nodes, kept by the runner of the master node."""

    def __init__(self, plan: LaunchPlan, hosts: Sequence[HostSpec]) -> None:
        self._hosts = hosts
        self._essential = {(p.host, p.role, p.index) for p in plan.processes if p.essential}
        self._count = len(plan.processes)
        self._stderr = {(p.host, p.role, p.index): p.stderr for p in plan.processes}
        self._ranks, self._slots, self._rank_stderr = plan.wrapped_ranks, plan.slots, plan.rank_stderr
        self._mpi = bool(plan.mpi_ranks)
        self._launcher = _launcher(plan)
        self._words: dict[int, int] = {}
        #: Ranks that began and have not said how they ended -> their host.
        self._running: dict[int, int] = {}
        #: (likeliness to be a consequence, exit code, details) of what failed, in order of arrival.
        self._failed_ranks: list[tuple[_Part, int, dict[str, str]]] = []
        self._failed_launcher: tuple[int, dict[str, str]] | None = None
        #: (host, exit code) of the first of MPI's daemons that failed.
        self._failed_daemon: tuple[int, int] | None = None
        self._warned = False

    def warned(self) -> None:
        """The processes are to leave: one that does must not take from the others the time to save their work.

        So a failure ends the attempt only once nothing is left of it that could come to an end by itself.
        """
        self._warned = True

    def process_ended(self, host: int, role: str, index: int, code: int) -> Wait | None:
        """A process ended. What to wait for, or None.

        Raises AttemptEnded when that ends the attempt.
        """
        # Servers that were warned leave as they were asked to; what the others make of it is their own end.
        ignored = self._warned and (host, role, index) not in self._essential
        self._essential.discard((host, role, index))
        if code != 0 and not ignored:
            failure = (code, self._details(host, role, index))
            if not self._ranks and not self._warned:
                raise job_failed(*failure)
            self._failed_launcher = self._failed_launcher or failure
        # The rank that caused it may speak a moment later than the launcher.
        return self._after_launcher()

    def rank_began(self, rank: int, host: int) -> None:
        """A rank began; how it ended when it ran before in this attempt counts no more."""
        self._running[rank] = host
        self._words.pop(rank, None)
        self._failed_ranks = [failure for failure in self._failed_ranks if failure[2]["rank"] != str(rank)]

    def rank_ended(self, rank: int, host: int, code: int, *, asked: bool = False) -> Wait | None:
        """A rank said how it ended, and whether the launcher had asked it to. As process_ended."""
        self._words[rank] = code
        self._running.pop(rank, None)
        if code != 0:
            details = {**self._details(host, "rank", rank), "rank": str(rank)}
            self._failed_ranks.append((_part(code, asked), code, details))
        if not self._mpi or not self._essential:
            return self._after_launcher()
        over = bool(self._failed_ranks) and len(self._words) == self._ranks if self._warned else code != 0
        if over:
            return Wait(LAUNCHER_SECONDS, self.time_is_up)
        return Wait(LAST_SECONDS, self._launcher_hangs) if self._all_well else None

    def daemon_ended(self, host: int, code: int) -> Wait | None:
        """MPI's daemon on that host ended. As process_ended.

        With another code than 0: the launcher ends its daemons so, just before it ends itself; one that goes on has
        lost the ranks of that host. With 0: MPICH's, when the wrapper of a rank was killed, and its launcher goes on.
        """
        if code != 0:
            self._failed_daemon = self._failed_daemon or (host, code)
            return Wait(WORDS_SECONDS, self.time_is_up)

        def words_are_missing() -> None:
            if any(place.host == host and place.rank not in self._words for place in places(self._slots)):
                self._failed_daemon = self._failed_daemon or (host, code)
                self.time_is_up()

        return Wait(WORDS_SECONDS, words_are_missing)

    @property
    def _all_well(self) -> bool:
        return len(self._words) == self._ranks and not any(self._words.values())

    def _launcher_hangs(self) -> None:
        """All ranks said 0 themselves: there is nothing that the launcher could still do."""
        if self._all_well:
            raise AttemptEnded(Outcome(SUCCEEDED, 0))

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
        told = f"{self._launcher} ended with exit code 0, but"
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

    def _after_launcher(self) -> Wait | None:
        if not self._mpi and self._failed_launcher is not None and not self._warned:
            return self._after_agent()
        if self._essential:
            return None
        cause = self._cause()
        if self._ranks and len(self._words) < self._ranks:
            return Wait(LAUNCHER_SECONDS if cause is not None else WORDS_SECONDS, self.time_is_up)
        if cause is not None:
            raise job_failed(*cause)
        raise AttemptEnded(Outcome(SUCCEEDED, 0))

    def _after_agent(self) -> Wait | None:
        """One of torchrun's agents failed, and most likely over a rank, which is on its node or on another."""
        cause = self._cause()
        if cause is not None and (cause is not self._failed_launcher or not self._running):
            raise job_failed(*cause)
        return Wait(LAUNCHER_SECONDS, self.time_is_up)

    def _cause(self) -> tuple[int, dict[str, str]] | None:
        """The failure to blame: the first of the likeliest ranks; the launcher where ranks only followed."""
        part, code, details = min(self._failed_ranks, key=lambda failure: failure[0], default=(None, 0, {}))
        if part is None or (part is _Part.FOLLOWED and self._failed_launcher is not None):
            return self._failed_launcher
        return code, details

    def _details(self, host: int, role: str, index: int) -> dict[str, str]:
        if self._count == 1 and not self._ranks and len(self._hosts) == 1:
            return {}
        process = f"{role} {index}" if role == "rank" or not self._mpi else self._launcher
        details = {"process": process, "node": self._hosts[host].name, "nodeId": self._hosts[host].node_id}
        if role == "rank" and self._rank_stderr:
            return {**details, "stdErrFile": self._rank_stderr.format(index)}
        # A rank writes where the launcher's output goes, which is the only process that the plan has then.
        return {**details, "stdErrFile": self._stderr.get((host, role, index)) or self._any_stderr}

    @property
    def _any_stderr(self) -> str:
        return next(iter(self._stderr.values()), "")
