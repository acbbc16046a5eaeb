"""Carries out one attempt on one node, from directories to a durable outcome.

``run`` is called in a process forked from a warmed parent, so this module imports everything up front.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from trainshed.resources.directories import is_below
from trainshed.resources.preemption import StopWarning, excused
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.runner import (
    code,
    environment,
    hosts,
    isolation,
    launch,
    layout,
    linux,
    mounting,
    outcome,
    stranger,
)
from trainshed.runner import view as views
from trainshed.runner.cluster_setup import ClusterSetup
from trainshed.runner.containers import start as container
from trainshed.runner.control import Control
from trainshed.runner.crew import Coordinator, Crew, Member, Solo
from trainshed.runner.events import EventLoop
from trainshed.runner.failure import (
    FAILED,
    LOST,
    STOPPED,
    SUCCEEDED,
    AttemptEnded,
    ParentDied,
    failed,
    isolation_broken,
    lost,
    out_of_memory,
    stopped,
    wall_clock_exceeded,
)
from trainshed.runner.ground import Ground
from trainshed.runner.isolation import PidNamespace
from trainshed.runner.kept_logs import KeptLogs, kept_logs_of
from trainshed.runner.memory import MemoryWatch
from trainshed.runner.node import Node
from trainshed.runner.preparation import prepare
from trainshed.runner.spec import Outcome, RunnerSpec
from trainshed.runner.switchboard import Switchboard
from trainshed.runner.volume_holding import VolumeHolding
from trainshed.volumes import Volume

#: Seconds by which the other nodes' clocks lag behind the coordinator's, which ends the gang on time.
_MEMBER_MARGIN = 15.0

_why_not: str | None = None


def warm_up(host_name: str = "") -> str:
    """Find out what isolation is permitted here, for all later runs of this process and its forks.

    Returns why there are no namespaces; empty when there are.
    """
    global _why_not
    _why_not = isolation.permitted(host_name)
    return _why_not


def run(
    spec: RunnerSpec,
    secrets: Mapping[str, str],
    control_fd: int,
    private: Mapping[str, str] | None = None,
    setup_secrets: Mapping[str, str] | None = None,
) -> Outcome:
    """Carry out the attempt; returns when nothing of it lives on this node and the outcome is on disk.

    Never raises. The calling process is given up to the attempt: every descriptor but 0-2 and ``control_fd`` is
    closed, signal handlers are replaced, namespaces entered. ``control_fd`` is a socket (see ``control``), or -1
    where nobody listens; then SIGTERM asks for a stop. When the parent dies everything is killed at once, and the
    outcome that is returned is neither on disk nor reported.
    """
    let_go_of_descriptors({control_fd})
    control = Control(control_fd)
    control.send({"running": True})
    try:
        result, _ = carry_out(spec, secrets, control, private=private, setup_secrets=setup_secrets)
    except ParentDied:
        return Outcome(LOST, None, _daemon_lost().to_json(), _now())
    control.send({"outcome": result.to_dict(), "attempt": spec.attempt_id, "again": False})
    return result


def carry_out(
    spec: RunnerSpec,
    secrets: Mapping[str, str],
    control: Control,
    *,
    private: Mapping[str, str] | None = None,
    setup_secrets: Mapping[str, str] | None = None,
    kept: PidNamespace | None = None,
    keep_isolation: bool = False,
    ground: Ground | None = None,
) -> tuple[Outcome, isolation.Isolation | None]:
    """The outcome, and the isolation if it was left for another attempt. Raises ParentDied, when all was killed.

    ``private`` are the secrets that are no variables, by JSON pointer, and ``setup_secrets`` the variables of a setup
    task that the attempt runs; ``kept`` is the isolation of the attempt before, which this one uses too; ``ground`` is
    what the node's setup left.
    """
    loop = EventLoop()
    attempt = Attempt(spec, secrets, loop, control, dies_with_parent=control.descriptor >= 0)
    attempt.node.private = private or {}
    attempt.node.setup_secrets = setup_secrets or {}
    attempt.node.setup_ground = ground
    attempt.node.isolation = kept
    attempt.node.keep_isolation = keep_isolation
    try:
        return attempt.carry_out(), attempt.node.kept
    except ParentDied:
        attempt.node.keep_isolation = False
        attempt.node.end_processes(0)
        raise
    finally:
        attempt.node.close_rank_logs()
        loop.close()


class Attempt:
    """The steps of an attempt, in order, and its orderly end."""

    def __init__(
        self, spec: RunnerSpec, secrets: Mapping[str, str], loop: EventLoop, control: Control, dies_with_parent: bool
    ) -> None:
        self.node = Node(spec, secrets, loop)
        self._memory = MemoryWatch()
        self._spec = spec
        self._loop = loop
        self._dies_with_parent = dies_with_parent
        self._crew: Crew = Solo(self.node)
        self._volumes: list[Volume] = []
        self._kept_logs: KeptLogs | None = None
        self._holding: VolumeHolding | None = None
        self._setup: ClusterSetup | None = None
        self._control = control
        self._ending = False
        #: Why the job was warned, once it was: it is to leave by itself.
        self._warned: dict[str, Any] | None = None
        self._said = ""
        control.attach(loop, spec.attempt_id, self._on_stop)
        loop.on_signal((signal.SIGTERM, signal.SIGINT), self._on_signal)
        if spec.wall_clock_seconds is not None:
            margin = _MEMBER_MARGIN if spec.node_index else 0.0
            loop.after(spec.wall_clock_seconds + margin, self._on_wall_clock)

    def carry_out(self) -> Outcome:
        """All of it. Raises ParentDied only."""
        try:
            self._begin()
            self._loop.run_until(lambda: False)
            raise AssertionError("the loop ends by AttemptEnded only")
        except AttemptEnded as end:
            ended = end
        except ParentDied:
            raise
        except Exception as error:
            ended = _unforeseen(error)
        ended = self._unless_broken(ended)
        try:
            return self._end(ended)
        except ParentDied:
            raise
        except Exception as error:
            self.node.end_processes(0)
            return self._write(replace(_unforeseen(error).outcome, ended_at=_now()))

    def _begin(self) -> None:
        node, spec = self.node, self._spec
        node.log.write(f"attempt {spec.attempt_number} of job {spec.identity.job} starts on {node.host.address}")
        Path(spec.directories.state).mkdir(parents=True, exist_ok=True)
        layout.wipe(spec.directories.job_temp_root, spec.view.user if spec.view else None)
        node.environment = environment.job_environment(spec, node.secrets)
        node.stdouterr = node.environment["AZ_BATCHAI_STDOUTERR_DIR"]
        switchboard = self._form_crew()
        self._set_up_node()
        self._mount_managed()
        self._kept_logs = kept_logs_of(node)
        self._isolate()
        node.heed_isolation()
        layout.make(spec, node.environment, node.inside)
        self._volumes = mounting.mount_all(node)
        container.start(node)
        layout.make_outputs(spec, node.environment, node.hands)
        if self._kept_logs is not None:
            self._kept_logs.start()
        node.open_execution_log()
        self._enter_working_directory()
        prepare(node)
        launch.start(node, self._crew, switchboard)

    def _set_up_node(self) -> None:
        """What the node itself would have done where one lives between jobs; other nodes are heard meanwhile."""
        if self._spec.setup is not None:
            self._setup = ClusterSetup(self.node, self._spec.setup)
            self._setup.carry_out()

    def _mount_managed(self) -> None:
        """Before isolation, so that the job has no hand in it; other nodes are heard meanwhile."""
        self._holding = mounting.start_holding(self.node)
        if self._holding is not None:
            # Whoever started the runner must not take it for something that the job left.
            self._control.send({"holder": self._holding.pid})
            mounting.wait_for_managed(self.node, self._holding)

    def _isolate(self) -> None:
        node = self.node
        if self._spec.view is not None:
            stranger.isolate(node, self._spec.view, _why_not, signal.SIGKILL if self._dies_with_parent else 0)
            return
        if node.isolation is not None:
            node.log.write(f"isolation: {node.isolation.description}, those of the attempt before")
            return
        why_not = isolation.permitted(node.host.name) if _why_not is None else _why_not
        node.isolation = isolation.isolate(node.host.name, why_not)
        if self._dies_with_parent and not node.isolation.child_death_signal:
            # The namespace dies with the runner, so the runner may die with its parent, whatever it is doing.
            linux.set_parent_death_signal(signal.SIGKILL)
        node.log.write(f"isolation: {node.isolation.description}")
        if node.isolation.own_mounts:
            try:
                hosts.install(self._spec.hosts, self._spec.directories.state)
            except OSError as error:
                node.log.write(f"/etc/hosts stays the machine's: {error.strerror}")
        if node.keep_isolation and isinstance(node.isolation, PidNamespace):
            node.isolation.remember_mounts()

    def _form_crew(self) -> Switchboard | None:
        node, spec = self.node, self._spec
        if not node.several:
            return None
        switchboard = Switchboard(node.host.address, spec.port, spec.token, self._loop)
        self._crew = Member(node) if spec.node_index else Coordinator(node, switchboard)
        return switchboard

    def _enter_working_directory(self) -> None:
        directory = self.node.job_temp
        if self._spec.code_store is not None and self._spec.code_manifest is not None:
            directory = f"{directory}/{code.DIRECTORY}"
            self.node.inside.make_directory(directory)
            self.node.log.write(f"putting {len(self._spec.code_manifest)} files of code into {directory}")
            code.materialise(self._spec.code_store, self._spec.code_manifest, directory, self.node.inside)
        if self._spec.view is None and self.node.container is None:
            os.chdir(directory)
        else:
            self.node.folder = directory

    def _end(self, ended: AttemptEnded) -> Outcome:
        """End the processes here, agree with the other nodes, and put the outcome on disk."""
        self._ending = True
        node = self.node
        node.disregard_isolation()
        grace = self._spec.grace_seconds if ended.grace is None else ended.grace
        over = ended.outcome.result == SUCCEEDED or (ended.outcome.result == FAILED and not node.several)
        ended = self._as_asked(ended)
        if over and not self._loop.living:
            # The job's processes are done. What serves them (parameter servers) would get the grace; what they left in
            # the background is killed.
            grace = 0.0
        self._crew.announce(ended.outcome, grace)
        if self._volumes and node.isolation is not None and not node.isolation.is_broken():
            node.prelude = ""
            node.close_rank_logs()
            # Who writes ends before what serves the files does, which lives among the job's processes.
            node.end_started(grace)
            self._close_log_on_volume(ended.outcome)
            mounting.unmount_all(node, self._volumes)
        node.end_processes(grace)
        node.close_rank_logs()
        self._close_log_on_volume(ended.outcome)
        if self._kept_logs is not None:
            self._kept_logs.finish()
        self._write_and_unmount()
        if (ended.outcome.reason or {}).get("code") == ReasonCode.JOB_DISK_LIMIT_EXCEEDED:
            # What it wrote on the node is what there is no room for.
            with suppress(AttemptEnded, OSError):
                layout.wipe(self._spec.directories.job_temp_root)
                if self._spec.view is not None:
                    views.prepare_private(self._spec.view)
        final = replace(
            self._crew.settle(self._with_cause(ended.outcome), grace), ended_at=_now(), container=node.image
        )
        self._say_end(final)
        node.log.close()
        if self._kept_logs is not None and final.result == SUCCEEDED:
            # Another attempt would write on.
            self._kept_logs.drop()
        self._write(final)
        self._crew.done()
        return final

    def _unless_broken(self, ended: AttemptEnded) -> AttemptEnded:
        """What cannot be done any more since nothing can be started in a namespace that has ended is not a failure."""
        isolated, outcome = self.node.isolation, ended.outcome
        if isolated is not None and outcome.result == FAILED and outcome.exit_code is None and isolated.is_broken():
            return isolation_broken(self.node.host)
        return ended

    def _as_asked(self, ended: AttemptEnded) -> AttemptEnded:
        """A job that was warned and leaves has done what it was asked to."""
        outcome = ended.outcome
        if self._warned is None or outcome.result != FAILED or not excused((outcome.reason or {}).get("code")):
            return ended
        return AttemptEnded(replace(outcome, result=STOPPED, reason=self._warned), grace=ended.grace)

    def _say_end(self, outcome: Outcome) -> None:
        """The last line of the execution log, unless it is that already."""
        reason = (outcome.reason or {}).get("text", "")
        said = f"the attempt {outcome.result}{f': {reason}' if reason else ''}"
        if said != self._said:
            self.node.log.write(said)
        self._said = said

    def _close_log_on_volume(self, outcome: Outcome) -> None:
        """A file that is open is neither uploaded nor lets its volume be unmounted; a copy is to be whole."""
        roots = [self.node.environment.get("AZ_BATCHAI_JOB_MOUNT_ROOT", "")]
        if self._spec.setup is not None and self._spec.setup.volumes:
            roots.append(self._spec.directories.mount_root)
        if self._kept_logs is not None:
            self._say_end(outcome)
        elif any(root and is_below(self.node.stdouterr, root) for root in roots):
            self._say_end(outcome)
            self.node.log.close()

    def _with_cause(self, ended: Outcome) -> Outcome:
        """A failure that memory may be to blame for says so."""
        killed = self._memory.killed
        if not killed:
            return ended
        told = out_of_memory(killed, self._memory.limit_mib)
        self.node.log.write(f"memory: {told}")
        if ended.result != FAILED or ended.reason is None or ended.exit_code is None:
            return ended
        details = {**ended.reason["details"], "outOfMemory": str(killed)}
        return replace(ended, reason={**ended.reason, "text": f"{ended.reason['text']}. {told}", "details": details})

    def _write_and_unmount(self) -> None:
        """Nobody writes to the managed volumes any more. What they cannot keep makes a success a failure."""
        for mounted in (self._holding, self._setup):
            for reason in mounted.end() if mounted is not None else ():
                self.node.log.write(reason.text)
                self._crew.not_written(reason.to_json())

    def _write(self, final: Outcome) -> Outcome:
        try:
            outcome.write(self._spec.directories.state, final)
        except OSError as error:
            # What is not durable is not reported as such.
            text = f"The outcome of the attempt ({final.result}) cannot be written: {error}."
            return replace(lost(ReasonCode.RUNNER_LOST, text).outcome, ended_at=final.ended_at)
        return final

    def _on_stop(self, reason: dict[str, Any], grace: float | None, warning: StopWarning | None) -> None:
        if self._ending:
            return
        if warning is not None and self.node.launched:
            if self._warned is None:
                self._warn(reason, grace, warning)
            return
        if reason.get("code") == ReasonCode.JOB_DISK_LIMIT_EXCEEDED:
            raise AttemptEnded(Outcome(FAILED, None, reason), grace=grace)
        raise stopped(reason, grace)

    def _warn(self, reason: dict[str, Any], grace: float | None, warning: StopWarning) -> None:
        """The job's processes go on until they have left or the time is up."""
        self._warned = reason
        self._crew.warned()
        launch.warn(self.node, reason, warning)

        def time_is_up() -> None:
            if not self._ending:
                raise stopped(reason, grace)

        self._loop.after(warning.seconds, time_is_up)

    def _on_signal(self) -> None:
        reason = Reason(ReasonCode.JOB_TERMINATED, "The runner was asked to stop by a signal.")
        self._on_stop(reason.to_json(), None, None)

    def _on_wall_clock(self) -> None:
        if not self._ending:
            assert self._spec.wall_clock_seconds is not None
            raise wall_clock_exceeded(self._spec.wall_clock_seconds)


def _unforeseen(error: Exception) -> AttemptEnded:
    return failed(
        ReasonCode.JOB_LAUNCH_FAILED,
        f"The runner met an error that it does not know: {type(error).__name__}: {error}. "
        "Report it with the job's execution.log.",
    )


def _daemon_lost() -> Reason:
    return Reason(ReasonCode.NODE_DAEMON_LOST, "The process that started the runner died; its attempt was killed.")


def let_go_of_descriptors(keep: set[int]) -> None:
    """Close what the parent had open: a runner that holds its sockets would hide the parent's death from others."""
    first = 3
    for descriptor in sorted(keep):
        if descriptor >= first:
            os.closerange(first, descriptor)
            first = descriptor + 1
    os.closerange(first, 1 << 20)
    for fd in range(3):
        with suppress(OSError):
            os.fstat(fd)
            continue
        os.open(os.devnull, os.O_RDWR)


def _now() -> int:
    return time.time_ns() // 1_000_000
