"""One node of an attempt: starts the runner and passes on what the service, or Slurm, wants of it.

The runner is a child; should this process die, the runner kills everything at once (see ``runner.control``).
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import signal
import socket
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from trainshed.engines.slurm.node import places
from trainshed.engines.slurm.node.places import Places, Ticket
from trainshed.resources import directories
from trainshed.runner import isolation
from trainshed.runner import main as runner
from trainshed.runner.failure import SUCCEEDED
from trainshed.runner.outcome import read as read_outcome
from trainshed.runner.spec import RunnerSpec

#: Seconds between two looks at what the service says; more in a large gang, whose nodes all look at one file.
LOOK_AGAIN = 0.25
#: Seconds in which the runner kills everything once its parent is gone.
_KILL_SECONDS = 15.0
_LOCK = "lock"
#: Beside the folders of jobs: which clusters' setup tasks have succeeded on the node.
_SETUPS = "setups"


class Watch:
    """The process between Slurm and the runner on one node."""

    def __init__(
        self,
        order: dict[str, Any],
        hosts: dict[str, Any],
        index: int,
        secret: dict[str, Any],
        slurm: dict[str, str],
    ) -> None:
        self._order = order
        self._run = int(slurm.get("SLURM_RESTART_COUNT") or 0)
        self._ticket = Ticket(Path(order["ticket"]))
        self._attempt = Places(Path(order["root"])).attempt(order["spec"]["attempt_id"])
        self._index = index
        self._secret = secret
        self._own = _own_folder(order, slurm)
        self._hosts = hosts["hosts"]
        self._spec = self._runner_spec(hosts, slurm)
        self._begun = time.monotonic()
        self._passed = [0, 0]
        self._signals: list[int] = []
        self._line: socket.socket | None = None
        self._child = 0
        self._code: int | None = None

    @property
    def spec(self) -> RunnerSpec:
        """What the runner is to do."""
        return self._spec

    def run(self) -> int:
        """Until nothing of the attempt lives on this node; the exit code of the task."""
        state = self._attempt.state(self._index)
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._touch()
        for number in (signal.SIGTERM, signal.SIGUSR2):
            signal.signal(number, lambda number, _frame: self._signals.append(number))
        lock = take_own(self._own)
        try:
            self._start()
            self._watch()
        finally:
            shutil.rmtree(self._own, ignore_errors=True)
            os.close(lock)
        outcome = read_outcome(str(state))
        if outcome is None:
            return self._code or 1
        return 0 if outcome.result == SUCCEEDED else outcome.exit_code or 1

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        waking, self._waker = socket.socketpair()
        self._woken = waking
        self._waker.setblocking(False)
        self._child = os.fork()
        if self._child == 0:
            try:
                # Signals of a terminal's kind, sent to the group, are not for it; Slurm's reach it all the same.
                os.setsid()
                ours.close()
                secret = self._secret
                with suppress(OSError):
                    # Volumes that a killed runner leaves are seen by nobody then who removes directories here.
                    isolation.enter_own_mounts()
                runner.run(
                    self._spec,
                    secret.get("secrets") or {},
                    theirs.detach(),
                    secret.get("private"),
                    secret.get("setup_secrets"),
                )
            finally:
                os._exit(0)
        theirs.close()
        self._secret = {}
        self._line = ours
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)

    def _watch(self) -> None:
        while not self._ended():
            self._pass_on()
            self._touch()
            ready, _, _ = select.select([self._woken, *([self._line] if self._line else [])], [], [], self._pause)
            if self._woken in ready:
                self._woken.recv(4096)
            if self._line in ready and self._line is not None and not self._line.recv(65536):
                # The runner says nothing any more: its end comes.
                self._line.close()
                self._line = None

    @property
    def _pause(self) -> float:
        return float(self._order["look_again"])

    def _ended(self) -> bool:
        pid, status = os.waitpid(self._child, os.WNOHANG)
        if pid == 0:
            return False
        code = os.waitstatus_to_exitcode(status)
        self._code = 128 - code if code < 0 else code
        return True

    def _pass_on(self) -> None:
        while self._signals:
            number = self._signals.pop(0)
            if number == signal.SIGUSR2:
                self._tell(warning(self._order, time.monotonic() - self._begun))
            else:
                with suppress(OSError):
                    self._attempt.signalled(self._index).touch()
                self._tell(self._order["ending"])
        for place, file in enumerate((self._attempt.told, self._attempt.heard)):
            told = places.lines(file)
            for message in told[self._passed[place] :]:
                self._tell(message)
            self._passed[place] = max(self._passed[place], len(told))
        if int(places.read(self._ticket.fence) or 0) > self._run:
            self._kill()

    def _tell(self, message: dict[str, Any]) -> None:
        if self._line is not None:
            with suppress(OSError):
                self._line.sendall(json.dumps(message, separators=(",", ":")).encode() + b"\n")

    def _kill(self) -> None:
        """Another run of the job has begun: nothing of this one may go on."""
        if self._line is not None:
            self._line.close()
            self._line = None
        until = time.monotonic() + _KILL_SECONDS
        while not self._ended():
            if time.monotonic() > until:
                os.kill(self._child, signal.SIGKILL)
                until = float("inf")
            self._touch()
            time.sleep(0.05)
        shutil.rmtree(self._own, ignore_errors=True)
        # ``_ended`` has reaped it; the loop must not ask again.
        os._exit(self._code or 1)

    def _touch(self) -> None:
        with suppress(OSError):
            alive = self._attempt.alive(self._index)
            alive.touch()
            os.utime(alive)

    def _runner_spec(self, hosts: dict[str, Any], slurm: dict[str, str]) -> RunnerSpec:
        order = self._order
        spec = RunnerSpec.from_dict({**order["spec"], "hosts": hosts["hosts"], "node_index": self._index})
        identity = spec.identity
        jobs = self._own / "jobs"
        shared = self._attempt.shared
        if len(spec.hosts) == 1:
            job_temp = directories.job_temp(str(jobs), identity.workspace, identity.experiment, identity.job)
            shared = Path(job_temp) / "shared"
        setup = spec.setup
        if setup is not None:
            setup = replace(setup, folder=str(self._own.parent / _SETUPS))
        own_gpus = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(order["gpus"])))
        gpus = [",".join(map(str, range(order["gpus"])))] * len(spec.hosts)
        gpus[self._index] = own_gpus if order["gpus"] else ""
        return replace(
            spec,
            directories=replace(
                spec.directories,
                job_temp_root=str(jobs),
                shared_job_temp=str(shared),
                state=str(self._attempt.state(self._index)),
                images=str(self._own / "images"),
                containers=str(self._own / "containers"),
                volumes=str(self._own / "volumes"),
            ),
            setup=setup,
            port=order["port_base"] + int(slurm["SLURM_JOB_ID"]) % order["port_count"],
            token=self._secret.get("token", ""),
            gpu_devices=tuple(gpus) if order["gpus"] else (),
            extra_environment={
                **spec.extra_environment,
                "TRAINSHED_SLURM_JOB_ID": slurm["SLURM_JOB_ID"],
                "TRAINSHED_SLURM_NODELIST": slurm.get("SLURM_JOB_NODELIST", ""),
            },
        )


def warning(order: dict[str, Any], age: float) -> dict[str, Any]:
    """What Slurm's warning means to a run of so many seconds: its time is up, or it is pre-empted."""
    expiring = order["expiring"]
    return dict(expiring["tell"] if expiring and age >= expiring["after"] else order["warning"])


def _own_folder(order: dict[str, Any], slurm: dict[str, str]) -> Path:
    """What is local to this node and this run of the job; the same path on all of them, as MPI's launchers need it."""
    name = f"{slurm['SLURM_JOB_ID']}-{slurm.get('SLURM_RESTART_COUNT') or 0}"
    return Path(own_directory(order, slurm), name)


def own_directory(order: dict[str, Any], slurm: dict[str, str]) -> str:
    """The user's folder in the engine's ``node_directory``, in which ``%n`` stands for the node's name."""
    above = str(order["node_directory"]).replace("%n", slurm.get("SLURMD_NODENAME", "node"))
    return f"{above}/trainshed-{os.geteuid()}"


def take_own(folder: Path) -> int:
    """Make the folder, and remove what killed jobs left there and beside it: a lock says which of them live.

    Returns the descriptor of the own lock. Raises OSError, PermissionError for a foreign folder.
    """
    above = folder.parent.parent
    if not above.is_dir():
        raise FileNotFoundError(2, "the engine's node_directory is not there", str(above))
    folder.parent.mkdir(mode=0o700, exist_ok=True)
    status = folder.parent.lstat()
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise PermissionError(1, "must belong to this user and be closed to others", str(folder.parent))
    if not _remove_unless_alive(folder):
        what = "another node uses it: give the engine a node_directory that is each node's own, or one with %n in it"
        raise FileExistsError(17, what, str(folder))
    folder.mkdir(mode=0o700)
    new = folder / f".{_LOCK}"
    own = os.open(new, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
    # Under its name it is locked from the first moment.
    new.rename(folder / _LOCK)
    for other in folder.parent.iterdir():
        if other != folder and (other / _LOCK).exists():
            _remove_unless_alive(other)
    return own


def _remove_unless_alive(folder: Path) -> bool:
    """Whether nobody has locked it; then it is removed."""
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        shutil.rmtree(folder, ignore_errors=True)
        return True
    finally:
        os.close(descriptor)
