"""One node of an attempt: starts the runner and passes on what the service, or Slurm, wants of it.

The runner is a child; should this process die, the runner kills everything at once (see ``runner.control``).
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from trainshed.engines.slurm.node import launcher, places
from trainshed.engines.slurm.node.own import Own
from trainshed.engines.slurm.node.places import Places, Ticket
from trainshed.engines.slurm.node.turns import job_of
from trainshed.resources import directories
from trainshed.runner.failure import SUCCEEDED
from trainshed.runner.outcome import read as read_outcome
from trainshed.runner.spec import RunnerSpec

#: Signals that came and were not looked at; those that come between two attempts are for the second.
_received: list[int] = []
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
        own: Own,
    ) -> None:
        """``own``: the job's on this node, which has the runner of an attempt before, or gets one."""
        self._order = order
        self._run = int(slurm.get("SLURM_RESTART_COUNT") or 0)
        self._ticket = Ticket(Path(order["ticket"]))
        self._attempt = Places(Path(order["root"])).attempt(order["spec"]["attempt_id"])
        self._index = index
        self._secret = secret
        self._own = own
        self._hosts, self._slurm = hosts["hosts"], slurm
        self._spec = self._runner_spec(hosts, slurm)
        self._begun = time.monotonic()
        self._passed = [0, 0]
        self._warned = False
        self._woken, self._waker = socket.socketpair()
        self._said = b""
        self._code: int | None = None
        #: Whether the attempt succeeded, and whether anybody wanted it to end; once it has run.
        self.succeeded = self.asked = False

    @property
    def spec(self) -> RunnerSpec:
        """What the runner is to do."""
        return self._spec

    def run(self) -> int:
        """Until nothing of the attempt lives on this node; the exit code of the task."""
        state = self._attempt.state(self._index)
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._spec.rank_launcher and self._index == 0:
            names = [host["name"] for host in self._hosts]
            places.write(
                self._attempt.launcher, launcher.describe(self._order["mpi"], names, self._order["srun"], self._slurm)
            )
        self._touch()
        for number in (signal.SIGTERM, signal.SIGUSR2):
            signal.signal(number, lambda number, _frame: _received.append(number))
        self._waker.setblocking(False)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        try:
            self._own.run(self._spec, self._data(), self._secret)
            self._secret = {}
            self._watch()
        finally:
            signal.set_wakeup_fd(-1)
            self._woken.close()
            self._waker.close()
        outcome = read_outcome(str(state))
        if outcome is None:
            return self._code or 1
        self.asked = self._wanted_to_end()
        self.succeeded = outcome.result == SUCCEEDED
        return 0 if outcome.result == SUCCEEDED else outcome.exit_code or 1

    def _watch(self) -> None:
        while (code := self._own.reap()) is None:
            self._pass_on()
            self._touch()
            line = self._own.line
            ready, _, _ = select.select([self._woken, *([line] if line else [])], [], [], self._pause)
            if self._woken in ready:
                self._woken.recv(4096)
            if line is not None and line in ready and self._goes_on(line):
                return
        self._code = code

    def _goes_on(self, line: socket.socket) -> bool:
        """Whether the runner has ended the attempt and takes another one."""
        with suppress(OSError):
            if said := line.recv(65536):
                *lines, self._said = (self._said + said).split(b"\n")
                return any(json.loads(told).get("again") for told in lines)
        # It says nothing any more: its end comes.
        self._own.hang_up()
        return False

    @property
    def _pause(self) -> float:
        return float(self._order["look_again"])

    def _pass_on(self) -> None:
        while _received:
            self._warned = True
            number = _received.pop(0)
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
        self._own.send({**message, "attempt": self._spec.attempt_id})

    def _wanted_to_end(self) -> bool:
        told = places.lines(self._attempt.told) or places.lines(self._attempt.heard)
        fenced = int(places.read(self._ticket.fence) or 0) > self._run
        return bool(told) or self._warned or fenced or bool(_received)

    def _kill(self) -> None:
        """Another run of the job has begun: nothing of this one may go on."""
        self._own.end_runner(self._touch)
        os._exit(1)

    def _touch(self) -> None:
        with suppress(OSError):
            alive = self._attempt.alive(self._index)
            alive.touch()
            os.utime(alive)

    def _data(self) -> dict[str, Any]:
        volumes = {name: self._order["spec"][name] for name in ("volumes", "cluster_volumes")}
        return {**asdict(self._spec), **volumes}

    def _runner_spec(self, hosts: dict[str, Any], slurm: dict[str, str]) -> RunnerSpec:
        order = self._order
        spec = RunnerSpec.from_dict({**order["spec"], "hosts": hosts["hosts"], "node_index": self._index})
        identity = spec.identity
        jobs = self._own.folder / "jobs"
        shared = self._attempt.shared
        if len(spec.hosts) == 1:
            job_temp = directories.job_temp(str(jobs), identity.workspace, identity.experiment, identity.job)
            shared = Path(job_temp) / "shared"
        setup = spec.setup
        if setup is not None:
            setup = replace(setup, folder=str(self._own.folder.parent / _SETUPS))
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
                images=str(self._own.folder / "images"),
                containers=str(self._own.folder / "containers"),
                volumes=str(self._own.folder / "volumes"),
            ),
            setup=setup,
            port=order["port_base"] + int(slurm["SLURM_JOB_ID"]) % order["port_count"],
            token=self._secret.get("token", ""),
            gpu_devices=tuple(gpus) if order["gpus"] else (),
            rank_launcher=self._rank_launcher(),
            extra_environment={
                **spec.extra_environment,
                "TRAINSHED_SLURM_JOB_ID": job_of(slurm),
                "TRAINSHED_SLURM_NODELIST": slurm.get("SLURM_JOB_NODELIST", ""),
            },
        )

    def _rank_launcher(self) -> tuple[str, ...]:
        # An order of an earlier version has no such member.
        if not self._order.get("mpi"):
            return ()
        return (sys.executable, *launcher.FLAGS, launcher.__file__, str(self._attempt.launcher))


def warning(order: dict[str, Any], age: float) -> dict[str, Any]:
    """What Slurm's warning means to a run of so many seconds: its time is up, or it is pre-empted."""
    expiring = order["expiring"]
    return dict(expiring["tell"] if expiring and age >= expiring["after"] else order["warning"])
