"""Tells the service how one node of an attempt fares: that it lives, its logs as they grow, its outputs, its outcome.

The service tells it what to pass on, and that a later run of the job has begun. Whoever can ask neither the service nor
Slurm for the lease's time ends the attempt: then a later run may begin without waiting for more than that.
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from trainshed.engines.slurm.node import places
from trainshed.engines.slurm.node.line import Away, Gone, Line, Relay, Wrong
from trainshed.engines.slurm.node.places import AttemptFolder
from trainshed.runner.environment import job_environment
from trainshed.runner.outcome import read as read_outcome
from trainshed.runner.spec import RunnerSpec

#: Seconds for which a call waits for news; between two looks at logs; and for which outputs and outcome are offered to
#: a service that is away, with the node held meanwhile.
_NEWS_SECONDS, _LOOK_AGAIN, REPORT_SECONDS = 5.0, 0.25, 1800.0
_SCONTROL_SECONDS, _FENCED_SECONDS = 10.0, 10.0
_PIECE = 4 << 20


class Reporter:
    """Of the child that watches the runner."""

    def __init__(
        self,
        relay: Relay,
        order: dict[str, Any],
        attempt: AttemptFolder,
        fence: Path,
        spec: RunnerSpec,
        run: int,
        child: int,
        slurm: dict[str, str],
    ) -> None:
        self._relay = relay
        self._attempt = attempt
        self._fence = fence
        self._index = spec.node_index
        self._run = run
        self._child = child
        self._slurm = slurm
        self._lease = float(order["lease"])
        self._mounts = Path(spec.directories.mount_root)
        self._logs = Path(job_environment(spec, {}).get("AZ_BATCHAI_STDOUTERR_DIR") or "/nowhere")
        self._line = Line(relay)
        #: Bytes that were sent of each log.
        self._sent: dict[Path, int] = {}
        self._signals: list[int] = []
        self._over = threading.Event()
        self._fenced = threading.Event()
        #: When service or Slurm was last asked, and said that this run is the present one. Of the clock that goes on
        #: while the machine sleeps.
        self._renewed = _now()

    def run(self) -> int:
        """Until all is told; the exit code of the task."""
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
        self._line.insist("outcome", message, until)

    def _guard(self) -> None:
        """Whatever the calls to the service hang in."""
        while not self._over.wait(min(1.0, self._lease / 20)):
            if _now() - self._renewed > self._lease:
                self._end_attempt()
                return

    def _beat(self) -> None:
        """Ask what there is to pass on, again and again."""
        line, told, heard = Line(self._relay, min(30.0, self._lease / 4)), 0, 0
        while not self._over.is_set():
            begun, wait = _now(), min(_NEWS_SECONDS, self._lease / 4)
            message = {"run": self._run, "index": self._index, "told": told, "heard": heard, "wait": wait}
            try:
                _, answer = line.tell("beat", message, wait=wait)
                self._renewed = begun
                for one in answer["told"]:
                    places.append(self._attempt.told, one)
                for one in answer["heard"]:
                    places.append(self._attempt.heard, one)
                told, heard = told + len(answer["told"]), heard + len(answer["heard"])
                continue
            except (Gone, Wrong):
                self._end_attempt()
                return
            except Away:
                begun = _now()
                if begun - self._renewed > self._lease / 2 and self._is_slurms():
                    self._renewed = begun
            self._over.wait(min(1.0, self._lease / 10))

    def _is_slurms(self) -> bool:
        """Whether Slurm says that this run is the job's present one."""
        try:
            done = subprocess.run(
                ["scontrol", "-o", "show", "job", self._slurm["SLURM_JOB_ID"]],
                capture_output=True,
                text=True,
                timeout=min(_SCONTROL_SECONDS, self._lease / 4),
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

    def _send_logs(self) -> None:
        """What has been added to the job's logs since. Raises Away, Gone, Wrong."""
        for path in sorted(_files(self._logs, below=self._mounts)):
            while True:
                sent = self._sent.get(path, 0)
                data = _piece(path, sent)
                if not data:
                    break
                self._send_piece(path, sent, data, log=True, last=False)
                self._sent[path] = sent + len(data)

    def _outputs(self) -> list[Path]:
        return [path for path in sorted(_files(self._mounts)) if path not in self._sent]

    def _send(self, path: Path, until: float) -> None:
        offset, last = 0, False
        while not last:
            data = _piece(path, offset)
            last = len(data) < _PIECE
            self._line.again(partial(self._send_piece, path, offset, data, log=False, last=last), until)
            offset += len(data)

    def _send_piece(self, path: Path, offset: int, data: bytes, *, log: bool, last: bool) -> None:
        with suppress(FileNotFoundError):
            values: dict[str, str | int] = {
                "run": self._run,
                "path": str(path.relative_to(self._mounts)),
                "offset": offset,
                "mode": path.lstat().st_mode & 0o777,
                "log": int(log),
                "last": int(last),
            }
            self._line.send(values, data)


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _files(folder: Path, below: Path | None = None) -> Iterator[Path]:
    """Regular files below a folder, none through a link."""
    if below is not None and below not in folder.parents:
        return
    for top, _, names in os.walk(folder):
        for name in names:
            path = Path(top, name)
            with suppress(OSError):
                if path.is_file() and not path.is_symlink():
                    yield path


def _piece(path: Path, offset: int) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        data = b""
        while len(data) < _PIECE and (some := os.pread(descriptor, _PIECE - len(data), offset + len(data))):
            data += some
        return data
    finally:
        os.close(descriptor)
