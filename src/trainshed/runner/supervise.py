"""Decides when an attempt is over, from the ends of its processes and the words of its MPI ranks. No I/O.

An attempt succeeds when all essential processes ended with 0 and, under an MPI launcher, every rank said 0 itself:
``mpirun`` alone is not believed (frameworks.md section 6). It fails with the first exit code that is not 0; a rank's
own code wins over the launcher's.
"""

from __future__ import annotations

from collections.abc import Sequence

from trainshed.resources.reasons import ReasonCode
from trainshed.runner.failure import SUCCEEDED, AttemptEnded, failed, job_failed
from trainshed.runner.spec import HostSpec, Outcome
from trainshed.toolkits.launch import LaunchPlan

#: Seconds that a launcher gets to end by itself after one of its ranks failed (MPICH hangs instead).
LAUNCHER_SECONDS = 2.0
#: Seconds in which the ranks' words must arrive after the launcher ended.
WORDS_SECONDS = 5.0

#: Exit codes from here on say that a signal ended the process: often a consequence, not the cause.
_SIGNALLED = 128


class Supervisor:
    """The state of an attempt's processes over all nodes, kept by the runner of the master node."""

    def __init__(self, plan: LaunchPlan, hosts: Sequence[HostSpec]) -> None:
        self._hosts = hosts
        self._essential = {(p.host, p.role, p.index) for p in plan.processes if p.essential}
        self._count = len(plan.processes)
        self._stderr = {(p.host, p.role, p.index): p.stderr for p in plan.processes}
        self._ranks = plan.mpi_ranks
        self._words: dict[int, int] = {}
        #: (exit code, details) of what failed, in order of arrival.
        self._failed_ranks: list[tuple[int, dict[str, str]]] = []
        self._failed_launcher: tuple[int, dict[str, str]] | None = None

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

    def rank_ended(self, rank: int, host: int, code: int) -> float | None:
        """A rank said how it ended. As process_ended."""
        self._words[rank] = code
        if code != 0:
            self._failed_ranks.append((code, {**self._details(host, "rank", rank), "rank": str(rank)}))
        if not self._essential:
            return self._after_launcher()
        return LAUNCHER_SECONDS if code != 0 else None

    def time_is_up(self) -> None:
        """Nothing more is waited for. Raises AttemptEnded."""
        cause = self._cause()
        if cause is not None:
            raise job_failed(*cause)
        missing = sorted(set(range(self._ranks)) - self._words.keys())
        raise failed(
            ReasonCode.JOB_RANK_FAILED,
            f"mpirun ended with exit code 0, but {len(missing)} of {self._ranks} ranks never said that they ended "
            f"(ranks {', '.join(map(str, missing))}): they were killed, or the launcher lost their node. "
            "See stderr.txt, and run the job again.",
            {"ranks": ",".join(map(str, missing))},
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
        """The failure to blame: a rank that ended by itself, else a rank, else the launcher."""
        for failure in self._failed_ranks:
            if failure[0] < _SIGNALLED:
                return failure
        if self._failed_launcher is not None and self._failed_launcher[0] < _SIGNALLED and not self._failed_ranks:
            return self._failed_launcher
        return self._failed_ranks[0] if self._failed_ranks else self._failed_launcher

    def _details(self, host: int, role: str, index: int) -> dict[str, str]:
        if self._count == 1 and not self._ranks and len(self._hosts) == 1:
            return {}
        details = {"process": f"{role} {index}", "node": self._hosts[host].name, "nodeId": self._hosts[host].node_id}
        # A rank writes where the launcher's output goes, which is the only process that the plan has then.
        stderr = self._stderr.get((host, role, index)) or next(iter(self._stderr.values()), "")
        return {**details, "stdErrFile": stderr}
