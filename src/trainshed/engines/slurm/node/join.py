"""Starts one rank as a task of Slurm's (``python -c TEXT PROGRAM [ARGUMENT...]``) that is a process of the attempt too.

It asks the runner of its node for the job's environment (``runner.joining``), enters the runner's namespaces and starts
the program there. Slurm keeps the process that it started: this one, which stays outside, ends as the rank does, and
ends the rank when the runner is gone. What Slurm tells the rank by variables and open descriptors reaches it.

Its text is an argument of the interpreter, so it needs no path that all nodes see; it imports nothing that is not
Python's, and little of that. Token and addresses come by environment variables: no command line shows them.
"""

from __future__ import annotations

import _socket
import ctypes
import json
import os
import select
import signal
import sys
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

FAILED = 255
CONNECT_SECONDS = 30.0
#: In the order in which they are entered: the right to enter the others goes with the user namespace.
KINDS = ("user", "ipc", "uts", "pid", "mnt")
#: Slurm's word to the rank goes before the job's variables.
OF_SLURM = ("SLURM", "PMI_", "PMI2_", "PMIX_")
#: Not for the rank.
_OF_THE_LINE = ("TRAINSHED_", "SRUN_", "PWD", "OLDPWD", "SHLVL", "_")
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_libc = ctypes.CDLL(None, use_errno=True)


class Impossible(Exception):
    """The rank cannot be started; the text says why."""


class Runner:
    """The line to the runner of this node. Raises OSError, Impossible."""

    def __init__(self, address: str, port: int, token: str) -> None:
        family = _socket.AF_INET6 if ":" in address else _socket.AF_INET
        self.socket = _socket.socket(family, _socket.SOCK_STREAM)
        self.socket.settimeout(CONNECT_SECONDS)
        self.socket.connect((address, port))
        self.socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_KEEPALIVE, 1)
        # The runner may still be about to start its part.
        self.socket.settimeout(None)
        self._buffer = b""
        self.say({"join": os.getpid(), "token": token})

    def say(self, message: Mapping[str, Any]) -> None:
        """A line."""
        self.socket.sendall(json.dumps(message).encode() + b"\n")

    def hear(self) -> dict[str, Any]:
        """The next line."""
        while b"\n" not in self._buffer:
            received = self.socket.recv(65536)
            if not received:
                raise Impossible("the runner of this node has ended, or takes no rank any more")
            self._buffer += received
        line, _, self._buffer = self._buffer.partition(b"\n")
        return dict(json.loads(line))

    def is_gone(self) -> bool:
        """Whether it has hung up."""
        try:
            return not self.socket.recv(4096, _socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True


def enter(runner: int) -> bool:
    """Join the namespaces of the runner; whether its processes have a PID namespace of their own. Raises OSError."""
    found = []
    for kind in KINDS:
        theirs = "pid_for_children" if kind == "pid" else kind
        descriptor = os.open(f"/proc/{runner}/ns/{theirs}", os.O_RDONLY | os.O_CLOEXEC)
        if os.fstat(descriptor).st_ino != os.stat(f"/proc/self/ns/{kind}").st_ino:  # noqa: PTH116
            found.append((kind, descriptor))
    for kind, descriptor in found:
        if _libc.setns(descriptor, 0) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"setns: {os.strerror(number)}", f"{kind} namespace of process {runner}")
    return any(kind == "pid" for kind, _ in found)


def environment_of(told: Mapping[str, Any], own: Mapping[str, str]) -> dict[str, str]:
    """The job's, what Slurm tells this rank, and the numbers that any launcher tells."""
    numbers = {"rank": own.get("SLURM_PROCID", "0"), "local": own.get("SLURM_LOCALID", "0")}
    return {
        **{name: value for name, value in own.items() if not name.startswith(_OF_THE_LINE)},
        **{name: value.format_map(numbers) for name, value in told["numbers"].items()},
        **told["environment"],
        **{name: value for name, value in own.items() if name.startswith(OF_SLURM)},
    }


def start(told: Mapping[str, Any], arguments: Sequence[str], gate: int) -> None:
    """In the child: wait until the runner knows of it, and become the rank. Never returns."""
    try:
        os.setsid()
        _libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        # At its end when the parent has died before the kernel was told what to do then.
        if os.read(gate, 1) == b"g":
            os.chdir(told["folder"])
            command = (told["bash"], "-c", told["prelude"] + 'exec "$@"', "rank", *arguments)
            os.execve(told["bash"], command, environment_of(told, dict(os.environ)))
    except OSError as error:
        os.write(2, f"trainshed: the rank cannot be started: {error}\n".encode())
    finally:
        os._exit(FAILED)


def descendants() -> list[int]:
    """Every living one of this process."""
    children: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):  # noqa: PTH208
        with suppress(OSError, ValueError), open(f"/proc/{name}/stat", "rb") as file:
            state, parent = file.read().rpartition(b")")[2].split()[:2]
            if state not in b"ZX":
                children.setdefault(int(parent), []).append(int(name))
    found: list[int] = []
    frontier = [os.getpid()]
    while frontier:
        below = children.get(frontier.pop(), [])
        found += below
        frontier += below
    return found


def end_all(child: int, contained: bool) -> None:
    """Kill the rank, and where no namespace sees to it, whatever it has started."""
    while True:
        for pid in [child] if contained else descendants():
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return


def wait_for(child: int, runner: Runner, woken: _socket.socket) -> int:
    """The rank's exit code, as a shell says it; -1 when the runner is gone and the rank is not."""
    poll = select.poll()
    poll.register(runner.socket, select.POLLIN)
    poll.register(woken, select.POLLIN)
    while True:
        poll.poll()
        with suppress(BlockingIOError):
            woken.recv(4096)
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == child:
                    code = os.waitstatus_to_exitcode(ended[1])
                    return 128 - code if code < 0 else code
        if runner.is_gone():
            return -1


def carry_out(runner: Runner, arguments: Sequence[str]) -> int:
    """From the runner's first word to the end of the rank; its exit code. Raises OSError, Impossible."""
    told = runner.hear()
    # Whatever the rank leaves behind stays below this process.
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1), 0, 0, 0)
    contained = enter(told["runner"])
    reading, writing = os.pipe()
    woken, waker = _socket.socketpair()
    woken.setblocking(False)
    waker.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    child = os.fork()
    if child == 0:
        os.close(writing)
        start(told, arguments, reading)
    os.close(reading)
    # Slurm sends them to the rank too, whose end is awaited.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    code = -1
    try:
        runner.say({"rank": int(os.environ.get("SLURM_PROCID", "0")), "process": child})
        runner.hear()
        os.write(writing, b"g")
        os.close(writing)
        code = wait_for(child, runner, woken)
    finally:
        if code < 0 or not contained:
            end_all(child, contained)
    return 128 + signal.SIGKILL if code < 0 else code


def main(arguments: Sequence[str]) -> int:
    """Carry out one call; the exit code."""
    host = os.environ.get("SLURMD_NODENAME", "")
    places = dict(pair.split("=", 1) for pair in os.environ.get("TRAINSHED_AGENT_HOSTS", "").split(";") if pair)
    if not arguments or host not in places:
        sys.stderr.write(f"trainshed: {host} is not a node of this job; its nodes are {', '.join(places)}\n")
        return FAILED
    address, _, port = places[host].rpartition(":")
    try:
        return carry_out(Runner(address, int(port), os.environ.get("TRAINSHED_AGENT_TOKEN", "")), arguments)
    except Impossible as error:
        sys.stderr.write(f"trainshed: {error}\n")
    except OSError as error:
        sys.stderr.write(f"trainshed: a rank cannot join the runner of {host} at {address}:{port}: {error}\n")
    return FAILED


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))
