"""Tells the service how one node of an attempt fares: that it lives, its logs as they grow, its outputs, its outcome.

The service tells it what to pass on, and that a later run of the job has begun. Whoever can ask neither the service nor
Slurm for the lease's time ends the attempt: then a later run may begin without waiting for more than that.
"""

from __future__ import annotations

import os
import re
import select
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from trainshed.engines.slurm.node import places
from trainshed.engines.slurm.node.line import LATER, Away, Gone, Line, Relay, Wrong
from trainshed.engines.slurm.node.places import AttemptFolder
from trainshed.runner.environment import job_environment
from trainshed.runner.outcome import read as read_outcome
from trainshed.runner.spec import RunnerSpec

#: Seconds for which a call waits for news; between two looks at logs; and for which outputs and outcome are offered to
#: a service that is away, with the node held meanwhile.
_NEWS_SECONDS, _LOOK_AGAIN, REPORT_SECONDS = 5.0, 0.25, 1800.0
_SCONTROL_SECONDS, _FENCED_SECONDS = 10.0, 10.0
#: Seconds within which what a killed process left has ended.
_REST_SECONDS = 60.0
_PIECE = 4 << 20


class Reporter:
    """Of one node's part of an attempt."""

    def __init__(
        self,
        relay: Relay,
        order: dict[str, Any],
        attempt: AttemptFolder,
        fence: Path,
        spec: RunnerSpec,
        run: int,
        slurm: dict[str, str],
    ) -> None:
        self._relay = relay
        self._attempt = attempt
        self._fence = fence
        self._index = spec.node_index
        self._run = run
        self._child = 0
        self._slurm = slurm
        self._lease = float(order["lease"])
        self._mounts = Path(spec.directories.mount_root)
        self._logs = Path(job_environment(spec, {}).get("AZ_BATCHAI_STDOUTERR_DIR") or "/nowhere")
        self._line = Line(relay)
        #: Bytes that were sent of each log.
        self._sent: dict[Path, int] = {}
        self._over = threading.Event()
        self._fenced = threading.Event()
        #: When service or Slurm was last asked, and said that this run is the present one. Of the clock that goes on
        #: while the machine sleeps.
        self._renewed = 0.0
        #: How many lines there are of what the service told, and of what Slurm told the script.
        self._told = self._heard = 0

    def begin(self, until: float) -> None:
        """Before anything runs: the service says that this run is the present one. Raises Gone, Away, Wrong."""
        self._line.again(lambda: self._ask(self._line, 0.0), until)

    def run(self, child: int) -> int:
        """Until all is told of the child that watches the runner; the exit code of the task."""
        self._child = child
        for number in (signal.SIGTERM, signal.SIGUSR2):
            signal.signal(number, lambda number, _frame: self._pass_on(number))
        for act in (self._beat, self._guard):
            threading.Thread(target=act, name=act.__name__, daemon=True).start()
        code = self._follow()
        try:
            if self._fenced.is_set():
                self._tell_end(time.monotonic() + _FENCED_SECONDS)
            else:
                self._report()
        except (Gone, Away, Wrong) as error:
            os.write(2, f"trainshed: the service was not told all: {error}\n".encode())
        self._over.set()
        self._line.close()
        return code

    def _pass_on(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._child, number)

    def _follow(self) -> int:
        """Send logs while the attempt lives."""
        descriptor = os.pidfd_open(self._child)
        try:
            while not select.select([descriptor], [], [], _LOOK_AGAIN)[0]:
                with suppress(Away, Gone, Wrong):
                    self._send_logs()
        finally:
            os.close(descriptor)
        code = os.waitstatus_to_exitcode(os.waitpid(self._child, 0)[1])
        until = time.monotonic() + _REST_SECONDS
        with suppress(ChildProcessError):
            # What it left when it was killed, runner and holders of volumes, ends by itself.
            while time.monotonic() < until:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    time.sleep(0.02)
        return code if code >= 0 else 128 - code

    def _report(self) -> None:
        """Logs, outputs, and then the outcome, so that who sees the outcome sees all. Raises Gone, Away, Wrong."""
        until = time.monotonic() + REPORT_SECONDS
        self._line.again(self._send_logs, until)
        for path in self._outputs():
            self._send(path, until)
        self._tell_end(until)

    def _tell_end(self, until: float) -> None:
        outcome = read_outcome(str(self._attempt.state(self._index)))
        message = {
            "run": self._run,
            "index": self._index,
            "outcome": outcome.to_dict() if outcome is not None else None,
            "signalled": self._attempt.signalled(self._index).exists(),
        }
        while True:
            try:
                if self._line.tell("outcome", message)[0] != LATER:
                    return
                until = max(until, time.monotonic() + _FENCED_SECONDS)
            except Away:
                if time.monotonic() > until:
                    raise
            time.sleep(_LOOK_AGAIN)

    def _guard(self) -> None:
        """Whatever the calls to the service hang in."""
        while not self._over.wait(min(1.0, self._lease / 20)):
            if _now() - self._renewed > self._lease:
                self._end_attempt()
                return

    def _beat(self) -> None:
        """Ask what there is to pass on, again and again."""
        line = Line(self._relay, min(30.0, self._lease / 4))
        while not self._over.is_set():
            try:
                self._ask(line, min(_NEWS_SECONDS, self._lease / 4))
                continue
            except (Gone, Wrong):
                self._end_attempt()
                return
            except Away:
                begun = _now()
                if begun - self._renewed > self._lease / 2 and self._is_slurms():
                    self._renewed = begun
            self._over.wait(min(1.0, self._lease / 10))

    def _ask(self, line: Line, wait: float) -> None:
        begun = _now()
        message = {"run": self._run, "index": self._index, "told": self._told, "heard": self._heard, "wait": wait}
        _, answer = line.tell("beat", message, wait=wait)
        self._renewed = begun
        for one in answer["told"]:
            places.append(self._attempt.told, one)
        for one in answer["heard"]:
            places.append(self._attempt.heard, one)
        self._told, self._heard = self._told + len(answer["told"]), self._heard + len(answer["heard"])

    def _is_slurms(self) -> bool:
        """Whether Slurm says that this run is the job's present one."""
        try:
            done = subprocess.run(
                ["scontrol", "-o", "show", "job", self._slurm["SLURM_JOB_ID"]],
                capture_output=True,
                text=True,
                timeout=min(_SCONTROL_SECONDS, self._lease / 2),
                env={**os.environ, **self._slurm},
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        state = re.search(r"\bJobState=(\w+)", done.stdout)
        restarts = re.search(r"\bRestarts=(\d+)", done.stdout)
        return bool(state and restarts and state[1] in ("RUNNING", "COMPLETING") and int(restarts[1]) == self._run)

    def _end_attempt(self) -> None:
        """Nothing of this run may go on: whoever watches the runner sees that a later one has begun."""
        self._fenced.set()
        with suppress(OSError):
            places.write(self._fence, self._run + 1)

    def seed_logs(self) -> None:
        """Begin logs where earlier attempts of the job ended them, so that places in them are those that the service
        has. Raises OSError, Gone, Away, Wrong.
        """
        if self._mounts not in self._logs.parents:
            return
        message = {"run": self._run, "path": str(self._logs.relative_to(self._mounts))}
        _, sizes = self._line.tell("logs", message)
        for name, size in sizes.items():
            path = self._logs / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            os.truncate(path, size)
            self._sent[path] = size

    def _send_logs(self) -> None:
        """What has been added to the job's logs since. Raises Away, Gone, Wrong."""
        for path in sorted(_files(self._logs) if self._mounts in self._logs.parents else ()):
            with suppress(OSError):
                size, sent = path.lstat().st_size, self._sent.get(path, -1)
                if size < sent:
                    sent = -1  # It was made anew.
                while size > sent:
                    data = _piece(path, max(0, sent))
                    # An empty one is there too.
                    self._send_piece(path, max(0, sent), data, last=sent < 0 and len(data) < _PIECE)
                    sent = self._sent[path] = max(0, sent) + len(data)
                    if not data:
                        break

    def _outputs(self) -> list[Path]:
        return [path for path in sorted(_files(self._mounts)) if self._logs not in path.parents]

    def _send(self, path: Path, until: float) -> None:
        """One output. What cannot be read here, or not be there, is left out. Raises Gone, Away."""
        offset, last = 0, False
        try:
            while not last:
                data = _piece(path, offset)
                last = len(data) < _PIECE
                self._line.again(partial(self._send_piece, path, offset, data, last=last), until)
                offset += len(data)
        except (OSError, Wrong) as error:
            os.write(2, f"trainshed: {path} was not sent: {error}\n".encode(errors="replace"))

    def _send_piece(self, path: Path, offset: int, data: bytes, *, last: bool) -> None:
        mode = path.lstat().st_mode & 0o777
        relative = str(path.relative_to(self._mounts))
        self._line.send({"run": self._run, "path": relative, "offset": offset, "mode": mode, "last": int(last)}, data)


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _files(folder: Path) -> Iterator[Path]:
    """Regular files below a folder, none through a link."""
    for top, _, names in os.walk(folder):
        for name in names:
            path = Path(top, name)
            with suppress(OSError):
                if stat.S_ISREG(path.lstat().st_mode):
                    yield path


def _piece(path: Path, offset: int) -> bytes:
    """Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        data = b""
        while len(data) < _PIECE and (some := os.pread(descriptor, _PIECE - len(data), offset + len(data))):
            data += some
        return data
    finally:
        os.close(descriptor)
