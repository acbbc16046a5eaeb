"""One node's side of an attempt: what the steps share, and how processes are started and ended."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from trainshed.resources import directories
from trainshed.resources.reasons import ReasonCode
from trainshed.runner import isolation
from trainshed.runner.events import Ended, EventLoop
from trainshed.runner.execution_log import ExecutionLog
from trainshed.runner.failure import SIGNALLED, directory_error, failed, isolation_broken
from trainshed.runner.ground import Ground
from trainshed.runner.hands import Hands, Own
from trainshed.runner.spec import HostSpec, RunnerSpec
from trainshed.toolkits.launch import LaunchPlan
from trainshed.volumes import CommandResult

#: Seconds that preparing a command's answer (``mpirun --version``, mount commands) may take.
_CAPTURE_SECONDS = 120.0
#: Seconds that processes which were killed may take to be gone.
_KILLED_SECONDS = 5.0
#: How a process ends that is killed, as all are whose namespace ends.
_KILLED = SIGNALLED + signal.SIGKILL
#: Added to the badness of strangers' processes: when memory is short the kernel takes them before the service.
_FIRST_TO_GO = "500"


class Closing(Protocol):
    """What has files open."""

    def close(self) -> None:
        """Let go of them."""
        ...


class Container(Protocol):
    """What the job runs in, where that is not the node itself."""

    def close(self) -> None:
        """Let go of it, before its last process ends."""
        ...

    def remove(self) -> None:
        """Remove what it wrote, after that."""
        ...


class Node:
    """The attempt as this node carries it out."""

    def __init__(self, spec: RunnerSpec, secrets: Mapping[str, str], loop: EventLoop) -> None:
        self.spec = spec
        self.secrets = secrets
        #: Secrets that are no variables (keys of volumes, passwords of registries), by JSON pointer.
        self.private: Mapping[str, str] = {}
        #: Variables of the cluster's setup task, where the attempt runs it.
        self.setup_secrets: Mapping[str, str] = {}
        self.loop = loop
        self.host: HostSpec = spec.hosts[spec.node_index]
        self.log = ExecutionLog(self.host.name)
        self.isolation: isolation.Isolation | None = None
        #: Whether the isolation is left for another attempt, and the one that was left.
        self.keep_isolation = False
        self.kept: isolation.Isolation | None = None
        self._heeds_isolation = False
        self.environment: dict[str, str] = {}
        #: Who makes the job's own directories and files, and who does that where the job's volumes are.
        self.inside: Hands = Own()
        self.hands: Hands = self.inside
        #: The container that the job asks for; it has to be closed and removed.
        self.container: Container | None = None
        #: Whether that makes the job's user root inside.
        self.root_inside = False
        #: What of the container is recorded with the attempt: ``image`` and ``digest``.
        self.image: dict[str, str] | None = None
        #: What the node's setup mounted and left, where it ran as a root of its own.
        self.setup_ground: Ground | None = None
        #: The same with what this attempt's volumes added.
        self.ground: Ground | None = None
        #: Working directory of what is started; empty: the runner's.
        self.folder = ""
        self.stdouterr = ""
        self.prelude = ""
        #: The plan that is carried out here, and the processes that were started for it.
        self.launched: LaunchPlan | None = None
        self.started: list[int] = []
        #: Of these, the one that starts ranks on all nodes and ends after them: it is not asked to end.
        self.launcher = 0
        #: Ranks here that the engine started (``joining``): who keeps each of them -> its process.
        self.joined: dict[int, int] = {}
        #: Ranks here that have said how they ended.
        self.spoken: set[int] = set()
        #: The processes have been asked to end: no rank may join them.
        self.ended = False
        #: Notes how the logs grow, once there are processes; it has to be closed.
        self.rank_logs: Closing | None = None
        self.deadline = None if spec.wall_clock_seconds is None else time.monotonic() + spec.wall_clock_seconds

    @property
    def several(self) -> bool:
        """Whether the gang has other nodes."""
        return len(self.spec.hosts) > 1

    @property
    def root(self) -> bool:
        """Whether the job's processes are root where they run."""
        return self.root_inside or (os.geteuid() == 0 and self.spec.view is None)

    @property
    def job_temp(self) -> str:
        """AZ_BATCHAI_JOB_TEMP."""
        return self.environment["AZ_BATCHAI_JOB_TEMP"]

    @property
    def execution_log_name(self) -> str:
        """``execution.log``, with the node's name where it is not the master."""
        return directories.execution_log(self.host.name if self.spec.node_index else None)

    def heed_isolation(self) -> None:
        """From now on the attempt is lost when somebody else ends what holds its processes."""
        assert self.isolation is not None
        self._heeds_isolation = True
        if self.isolation.line is not None:
            self.loop.watch(self.isolation.line, self._require_isolation)

    def disregard_isolation(self) -> None:
        """The attempt is over anyway. A second call does nothing."""
        self._heeds_isolation = False
        if self.isolation is not None and self.isolation.line is not None:
            self.loop.unwatch(self.isolation.line)

    def _require_isolation(self) -> None:
        """Raises AttemptEnded (RunnerLost)."""
        if self._heeds_isolation and self.isolation is not None and self.isolation.is_broken():
            raise isolation_broken(self.host)

    def open_execution_log(self) -> None:
        """Start writing ``execution.log``. Raises AttemptEnded."""
        path = f"{self.stdouterr}/{self.execution_log_name}"
        try:
            self.log.open(self.hands.open_log(path))
        except OSError as error:
            raise directory_error("stdOutErrPathPrefix", path, error) from error

    def start_logged(
        self, command_line: str, environment: Mapping[str, str], stdout: str, stderr: str, on_exit: Ended
    ) -> int:
        """Start a command line with its output appended to files of ``stdouterr``. Raises AttemptEnded."""
        fds: list[int] = []
        try:
            for name in (stdout, stderr):
                path = f"{self.stdouterr}/{name}"
                try:
                    fds.append(self.hands.open_log(path))
                except OSError as error:
                    raise directory_error("stdOutErrPathPrefix", path, error) from error
            return self.start(command_line, environment, fds[0], fds[1], on_exit)
        finally:
            for fd in fds:
                os.close(fd)

    def start(self, command_line: str, environment: Mapping[str, str], stdout: int, stderr: int, on_exit: Ended) -> int:
        """Start a command line inside the isolation. Raises AttemptEnded (JobLaunchFailed, RunnerLost)."""
        assert self.isolation is not None

        def ended(code: int) -> None:
            if code == _KILLED:
                self._require_isolation()
            on_exit(code)

        if isinstance(self.hands, Own):
            self.hands.death_signal = self.isolation.child_death_signal
        try:
            pid = self.hands.start(
                self.prelude + command_line,
                environment,
                (stdout, stderr),
                self.folder,
            )
        except (OSError, ValueError) as error:
            self._require_isolation()
            raise failed(
                ReasonCode.JOB_LAUNCH_FAILED,
                f"bash cannot be started on node {self.host.name}: {error}. "
                "Check that bash is installed there and that command line and environment fit the system's limits.",
                {"node": self.host.name},
            ) from error
        if self.spec.view is not None:
            with suppress(OSError), open(f"/proc/{pid}/oom_score_adj", "w") as score:
                score.write(_FIRST_TO_GO)
        self.loop.on_exit(pid, ended)
        return pid

    def close_rank_logs(self) -> None:
        """No more is noted of the logs. A second call does nothing."""
        if self.rank_logs is not None:
            self.rank_logs.close()
            self.rank_logs = None

    def capture(self, command_line: str, timeout: float = _CAPTURE_SECONDS) -> CommandResult:
        """Run a command line to its end in the job's environment and return what it printed."""
        ended: list[int] = []
        path = f"{self.spec.directories.state}/captured"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            pid = self.start(command_line, self.environment, fd, fd, ended.append)
            if not self.loop.run_until(lambda: bool(ended), timeout):
                with suppress(ProcessLookupError):
                    os.killpg(pid, 9)
                return CommandResult(124, f"no end after {timeout:g} s")
            return CommandResult(ended[0], os.pread(fd, 1 << 16, 0).decode(errors="replace"))
        finally:
            os.close(fd)
            Path(path).unlink()

    def end_started(self, grace: float) -> None:
        """End what was started here, with its process groups: SIGTERM, the grace, SIGKILL. Others go on."""
        self.ended = True
        started = self.loop.living
        for pid in started:
            self.loop.on_exit(pid, lambda _code: None)
        for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, _KILLED_SECONDS)):
            spared = {self.launcher} if number == signal.SIGTERM else set()
            for pid in (started & self.loop.living) - spared | set(self.joined.values()):
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, number)
            self.loop.run_until(lambda: not started & self.loop.living and not self.joined, seconds)

    def end_processes(self, grace: float) -> None:
        """End everything that the attempt started on this node: SIGTERM, the grace, SIGKILL, wait until none is left.

        With a grace of 0 the processes are killed at once. A second call does nothing. When the parent dies
        meanwhile, the rest is killed at once and ParentDied raised.
        """
        if self.isolation is None:
            return
        self.ended = True
        keep = False
        try:
            if grace > 0:
                self._end_gently(self.isolation, grace)
            keep = self.keep_isolation
        finally:
            ending, self.isolation = self.isolation, None
            if self.container is not None:
                self.container.close()
            if keep and ending.clear(self.loop.living):
                self.kept = ending
            else:
                ending.kill()
            if self.container is not None:
                self.container.remove()
        # Who keeps a rank is outside, and ends at once when the rank has.
        self.loop.run_until(lambda: not self.joined, _KILLED_SECONDS)

    def _end_gently(self, isolated: isolation.Isolation, grace: float) -> None:
        until = time.monotonic() + grace
        for pid in self.loop.living:
            self.loop.on_exit(pid, lambda _code: None)
        isolated.terminate([self.launcher] if self.launcher in self.loop.living else [])
        self.loop.run_until(lambda: not self.loop.living and not self.joined, grace)
        left = until - time.monotonic()
        if left <= 0 or self.loop.living or self.joined:
            return
        fd = isolated.watch_empty()
        if fd is None:
            self._wait_for_orphans(until)
            return
        empty: list[bool] = []

        def told() -> None:
            os.read(fd, 64)
            empty.append(True)

        self.loop.watch(fd, told)
        self.loop.run_until(lambda: bool(empty), left)
        self.loop.unwatch(fd)

    def _wait_for_orphans(self, until: float) -> None:
        """Orphans that were adopted end one by one: look again at each interval until none is left."""
        while isolation.descendants(os.getpid()) and (left := until - time.monotonic()) > 0:
            self.loop.run_until(lambda: False, min(0.05, left))
