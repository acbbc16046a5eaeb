"""A real Ray cluster of several nodes on this machine: nodes have loopback addresses, token authentication is on.

Everything is ended by its process id, found by the session that its ``ray start`` leads.
"""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

#: Seconds that any part may take to come up on a busy machine.
_PATIENCE = 120.0
_LOOK_AGAIN = 0.1
#: Dead nodes are noticed in 3 s instead of 15, and slow ones in 9, which is all that is unlike a cluster of the real
#: world.
_QUICK = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 2000,
    "health_check_failure_threshold": 3,
}
_OBJECT_STORE = 80_000_000
#: Ray's command line.
_RAY = (sys.executable, "-c", "from ray.scripts.scripts import main; main()")


class Leader:
    """A ``ray start`` that stays, and leads the session of its node's processes."""

    def __init__(self, pid: int, output: Path) -> None:
        self.pid, self.output = pid, output

    def has_ended(self, seconds: float = 0.0) -> bool:
        """Whether it has, or does within so many seconds. It is no child of this process's."""
        with suppress(ProcessLookupError):
            descriptor = os.pidfd_open(self.pid)
            try:
                return bool(select.select([descriptor], [], [], seconds)[0])
            finally:
                os.close(descriptor)
        return True

    def has_joined(self) -> bool:
        """Whether it has said so; its raylet may have died since."""
        return "Ray runtime started" in self.output.read_text()

    def is_up(self) -> bool:
        """It has joined, and its raylet lives."""
        return self.has_joined() and any(_program(pid).endswith("/raylet") for pid in _session(self.pid))


class RayNodes:
    """A head that runs nothing, and nodes that do."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ray-lab-", dir="/tmp"))
        self.token_file = self.folder / "token"
        self.token_file.write_text(secrets.token_hex(32))
        self.token_file.chmod(0o600)
        # Of this process alone, so that several test processes are not in each other's way.
        self.network = f"127.{64 + os.getpid() % 61}.{os.getpid() // 61 % 250 + 1}"
        self._hosts, self._joins, self._starts = 1, 0, 0
        self._options: dict[str, tuple[str, ...]] = {}
        self.port = _free_port(f"{self.network}.1")
        #: Beside ``environment``, for the head and the nodes that it starts.
        self.more_environment: dict[str, str] = {}
        self._starter: subprocess.Popen[bytes] | None = None
        self.head: Leader | None = None
        #: The leaders of the nodes' sessions, by address.
        self.nodes: dict[str, Leader] = {}

    @property
    def address(self) -> str:
        """Of the head."""
        return f"{self.network}.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """Of every process of this cluster."""
        return {
            # As with an environment that was activated: jobs find the programs that the nodes' starter finds.
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(Path.home()),
            "USER": "root",
            "LANG": "C.UTF-8",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token_file),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_TMPDIR": str(self.folder),
            # Workers are started when they are needed: two cores are not for idle ones.
            "RAY_enable_worker_prestart": "0",
            "RAY_prestart_worker_first_driver": "0",
            **self.more_environment,
        }

    def start_head(self, *options: str, wait: bool = True) -> None:
        """Start the head; returns when it is up, or at once."""
        self.head = self._ray(
            "--head",
            f"--node-ip-address={self.network}.1",
            f"--port={self.port}",
            "--num-cpus=0",
            "--num-gpus=0",
            "--include-dashboard=false",
            f"--temp-dir={self.folder}",
            "--disable-usage-stats",
            f"--system-config={json.dumps(_QUICK)}",
            *options,
        )
        if wait:
            self.wait(self.head.is_up, "the head")

    def add_node(self, *options: str, cpus: int = 1, resources: dict[str, float] | None = None) -> str:
        """Start one more node; its address. Returns at once."""
        self._hosts += 1
        address = f"{self.network}.{self._hosts}"
        self._options[address] = (
            f"--node-ip-address={address}",
            f"--address={self.address}",
            f"--num-cpus={cpus}",
            "--num-gpus=0",
            f"--resources={json.dumps(resources or {})}",
            *options,
        )
        self._join(address)
        return address

    def _join(self, address: str) -> None:
        # Nodes that start at one time must not choose the names of their sockets in one folder.
        self._joins += 1
        self.nodes[address] = self._ray(*self._options[address], f"--temp-dir={self.folder}/{self._joins}")

    def wait_for(self, count: int) -> None:
        """Until that many nodes have joined."""

        def joined() -> bool:
            self.rejoin()
            return len(self.joined()) >= count

        self.wait(joined, f"{count} nodes")

    def rejoin(self, but: Collection[str] = ()) -> None:
        """Start nodes again, without waiting for them, whose raylet was killed, or never came up: ``ray start`` gives
        up after 30 s, too soon for a busy machine.
        """
        for address, leader in list(self.nodes.items()):
            if address not in but and (leader.has_ended() or (leader.has_joined() and not leader.is_up())):
                _end(leader)
                self._join(address)

    def joined(self) -> list[str]:
        """Nodes that have joined, and whose raylet lives."""
        return [address for address, leader in self.nodes.items() if leader.is_up()]

    def raylets(self) -> int:
        """How many nodes live, the head's own included."""
        return sum(_program(pid).endswith("/raylet") for pid in _mentioning(str(self.folder)))

    def kill_raylet(self, address: str, number: int = signal.SIGKILL) -> None:
        """Kill -9 of a node's raylet alone, or another signal: SIGTERM is what ``ray stop`` and a shutdown send."""
        for pid in _session(self.nodes[address].pid):
            if _program(pid).endswith("/raylet"):
                os.kill(pid, number)

    def give_notice(self, ray_id: str, seconds: int) -> None:
        """Tell Ray that a node's machine is taken back so soon, as an autoscaler does that the cloud has told."""
        notice = ("--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=spot", f"--node-id={ray_id}")
        deadline = f"--deadline-remaining-seconds={seconds}"
        subprocess.run(
            [*_RAY, "drain-node", f"--address={self.address}", *notice, deadline],
            env=self.environment,
            capture_output=True,
            check=True,
            timeout=_PATIENCE,
        )

    def agent(self, address: str) -> int:
        """The process of the actor that holds a node."""
        (pid,) = (pid for pid in _session(self.nodes[address].pid) if _program(pid).startswith("ray::NodeAgent"))
        return pid

    def agents(self) -> list[int]:
        """The processes of all actors that hold nodes."""
        pids = [pid for leader in self.nodes.values() for pid in _session(leader.pid)]
        return [pid for pid in pids if _program(pid).startswith("ray::NodeAgent")]

    def kill_head(self) -> None:
        """Kill -9 of everything on the head's machine."""
        if self.head is not None:
            _end(self.head)
            self.head = None
            # With it the next one would take the raylets of other machines, which are here too, for its own.
            (self.folder / "ray_current_cluster").unlink(missing_ok=True)

    def kill_node(self, address: str) -> None:
        """Kill -9 of Ray's processes of a node; gone from ``nodes``."""
        _end(self.nodes.pop(address))

    def close(self) -> None:
        """End everything, and leave nothing."""
        self.kill_head()
        for address in list(self.nodes):
            self.kill_node(address)
        if self._starter is not None:
            self._starter.kill()
            self._starter.communicate()
        name = str(self.folder)
        deadline = time.monotonic() + _PATIENCE
        while (left := _mentioning(name)) and time.monotonic() < deadline:
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(_LOOK_AGAIN)
        shutil.rmtree(self.folder, ignore_errors=True)
        assert not left, f"processes of Ray that do not end: {left}"

    def _ray(self, *options: str) -> Leader:
        if self._starter is None:
            self._starter = subprocess.Popen(
                [sys.executable, "-m", "tests.engines.ray.starter"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=Path(__file__).parents[3],
                env=self.environment,
            )
        assert self._starter.stdin is not None and self._starter.stdout is not None
        self._starts += 1
        output = self.folder / f"{self._starts}.out"
        output.touch()
        common = ("start", "--block", "--include-log-monitor=false", f"--object-store-memory={_OBJECT_STORE}")
        asked = {"arguments": [*common, *options], "output": str(output)}
        self._starter.stdin.write(json.dumps(asked).encode() + b"\n")
        self._starter.stdin.flush()
        return Leader(int(self._starter.stdout.readline()), output)

    def wait(self, holds: Callable[[], bool], what: str) -> None:
        """Until it holds, with a bound."""
        deadline = time.monotonic() + _PATIENCE
        while not holds():
            if time.monotonic() > deadline:
                told = "\n".join(path.read_text()[-1000:] for path in self.folder.glob("*.out"))
                raise AssertionError(f"waited {_PATIENCE:g} s in vain for: {what}\n{told}")
            time.sleep(_LOOK_AGAIN)


def why_not() -> str:
    """Why there is no Ray here; empty when there is."""
    if importlib.util.find_spec("ray") is None:
        return "Ray is not installed: pip install 'trainshed[ray]'"
    return ""


def _end(leader: Leader) -> None:
    """SIGKILL to a whole session."""
    for pid in _session(leader.pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert leader.has_ended(_PATIENCE)


def _session(leader: int) -> list[int]:
    return [pid for pid in _processes() if _getsid(pid) == leader]


def _getsid(pid: int) -> int:
    with suppress(ProcessLookupError):
        return os.getsid(pid)
    return 0


def _processes() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]  # noqa: PTH208 - names are all


def _program(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()
    return ""


def _mentioning(text: str) -> list[int]:
    """Processes of Ray that have the cluster's folder on their command line."""
    found = []
    for pid in _processes():
        with suppress(OSError):
            if text.encode() in Path(f"/proc/{pid}/cmdline").read_bytes() and pid != os.getpid():
                found.append(pid)
    return found


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with suppress(OSError):
        socket.create_connection((host, int(port)), 1.0).close()
        return True
    return False


def _free_port(host: str) -> int:
    with socket.socket() as trial:
        trial.bind((host, 0))
        return int(trial.getsockname()[1])
