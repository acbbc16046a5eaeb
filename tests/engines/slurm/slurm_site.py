"""A Slurm site of its own in a folder: munged, slurmctld and one slurmd a node, all on this machine's loopback.

Debian's Slurm is built with multiple-slurmd support, so ``slurmd -N n1`` makes a node of a name. Each node has an
address of its own (127.x.y.z), which slurmctld dials and at which runners listen. Nothing outside of the folder is
used, ports are free ones, and every process is ended by its id.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from trainshed.engines.local.leftovers import kill_trees

#: Seconds that any step of the set-up may take.
PATIENCE = 60.0
_NOBODY = 65534
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol")
#: Begins the names of jobs that only show what slurmctld has written down.
_SAVED = "saved-"
#: Without an Epilog, slurmctld 22.05 looks for the next job only at its tick of a second (reference: engines).
_TUNED = """\
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,bf_interval=2
Epilog=/bin/true
"""


def why_not() -> str:
    """Why there can be no site here; empty when there can."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        return (
            f"Slurm's programs are not installed ({', '.join(missing)}): apt-get install --no-install-recommends "
            "slurmctld slurmd slurm-client munge slurm-wlm-basic-plugins"
        )
    return "" if os.geteuid() == 0 else "a Slurm of its own needs root here"


def why_no_rest() -> str:
    """Why a site here has no slurmrestd with JWT; empty when it has."""
    if shutil.which("slurmrestd") is not None and _jwt_plugin():
        return ""
    return (
        "slurmrestd or Slurm's JWT plugin is not installed: apt-get install --no-install-recommends slurmrestd "
        "slurm-wlm-jwt-plugin"
    )


def _jwt_plugin() -> bool:
    return any(Path("/usr").glob("lib*/**/slurm*/auth_jwt.so"))


class Site:
    """A site with nodes n1, n2 ...; partitions ``batch`` (all nodes), ``low`` and, pre-empting that, ``high``."""

    def __init__(self, nodes: int = 4, cpus: int = 2, *, tuned: bool = True) -> None:
        # Short paths: munge's socket has to fit into 108 bytes.
        self.root = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
        self.root.chmod(0o755)
        self.conf = self.root / "slurm.conf"
        #: Nobody sees it on the nodes, and each of them has a folder of its own at the other path: where that can be.
        self.hidden, self.own = self.root / "service", self.root / "node"
        self.apart = not subprocess.run(["unshare", "-m", "--propagation", "private", "true"], check=False).returncode
        self.names = tuple(f"n{index + 1}" for index in range(nodes))
        #: A whole /24 of the loopback for each site, so that two never meet.
        self._net = f"127.{random.randint(64, 250)}.{random.randint(1, 250)}"
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._write(nodes, cpus, tuned)
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": "/root",
            "USER": "root",
            "LANG": "C.UTF-8",
            "SLURM_CONF": str(self.conf),
        }

    def start(self) -> None:
        """Up to the moment at which all nodes are idle. Raises TimeoutError with what the daemons said."""
        munge = self.root / "munge"
        self._start(
            "munged",
            "munged",
            "--foreground",
            "--force",
            *(f"--{name}={munge / name.removesuffix('-file')}" for name in ("socket", "key-file", "pid-file")),
            *(f"--{name}={munge / name.removesuffix('-file')}" for name in ("log-file", "seed-file")),
        )
        self._until((munge / "socket").exists, "munge's socket")
        self.start_controller(clean=True)
        for name in self.names:
            self.start_node(name)
        self._until(lambda: len(self.idle()) == len(self.names), "idle nodes")

    def start_controller(self, *, clean: bool = False) -> None:
        """slurmctld; ``clean``: without the jobs that it knew."""
        self._start("slurmctld", "slurmctld", "-D", "-i", *(["-c"] if clean else []))

    def start_node(self, name: str) -> None:
        """slurmd of a node."""
        daemon = ["slurmd", "-D", "-N", name]
        if self.apart:
            both = f"mount -t tmpfs none {self.hidden} && mount -t tmpfs -o mode=1777 none {self.own}"
            daemon = ["unshare", "-m", "--propagation", "private", "sh", "-c", f'{both} && exec "$@"', "sh", *daemon]
        self._start(name, *daemon)

    def start_rest(self) -> str:
        """slurmrestd with JWT, as nobody, since it refuses to be root; its URL, once it listens.

        ``openapi/v0.0.38`` is named: with all of them it wants an accounting database (reference: engines).
        """
        socket_ = self.root / "rest" / "socket"
        if "slurmrestd" not in self._children:
            shutil.rmtree(socket_.parent, ignore_errors=True)
            socket_.parent.mkdir()
            os.chown(socket_.parent, _NOBODY, _NOBODY)
            self._start(
                "slurmrestd",
                *("slurmrestd", "-s", "openapi/v0.0.37,openapi/v0.0.38", "-a", "rest_auth/jwt"),
                *("-u", str(_NOBODY), "-g", str(_NOBODY), f"unix:{socket_}"),
                # Its own token: without one it refuses to start, and what it is does not matter.
                environment={"SLURM_JWT": "daemon"},
            )
            self._until(lambda: _listens(socket_), "slurmrestd's socket")
        return f"unix:{socket_}"

    def token(self, lifespan: int = 600) -> str:
        """A JWT of root."""
        return self.run("scontrol", "token", f"lifespan={lifespan}", "username=root").partition("=")[2]

    def kill(self, name: str) -> None:
        """SIGKILL to ``slurmctld`` or to the slurmd of a node; what a slurmd had started goes on.

        A slurmctld that forgets jobs gives their numbers to others, and takes nodes that have them away ("Duplicate
        jobid"): it has written all down before.
        """
        if name == "slurmctld":
            self.save()
        child = self._children.pop(name)
        child.kill()
        child.wait()

    def alive(self, name: str) -> bool:
        """Whether ``slurmctld`` or the slurmd of a node was started and not killed."""
        return name in self._children

    def own_of(self, name: str) -> Path:
        """The folder that a node has for itself, as it is seen from here."""
        return Path(f"/proc/{self._children[name].pid}/root{self.own}")

    def save(self) -> None:
        """Wait until slurmctld has written down all jobs as they are now: one that is killed forgets the others."""
        name = f"{_SAVED}{time.time_ns()}"
        job = self.run("sbatch", "--parsable", "--hold", f"--job-name={name}", "-o/dev/null", "--wrap=true")
        state = self.root / "state" / "job_state"
        self._until(lambda: state.is_file() and name.encode() in state.read_bytes(), "a state that is written down")
        self.run("scancel", job)

    def idle(self) -> list[str]:
        """Nodes that are idle."""
        return self.run("sinfo", "-h", "-N", "-p", "batch", "-t", "idle", "-o", "%N", check=False).split()

    def run(self, *argv: str, check: bool = True, stdin: str = "") -> str:
        """What a command of Slurm prints."""
        done = subprocess.run(
            argv, env=self.environment, input=stdin, text=True, capture_output=True, timeout=PATIENCE, cwd=self.root
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{argv} said {done.returncode}: {done.stderr}{done.stdout}")
        return done.stdout.strip()

    def states(self) -> dict[str, str]:
        """State of each job that is queued, runs or is completing, by id."""
        found = {}
        for line in self.run("squeue", "-h", "-o", "%i %T %j").splitlines():
            job, state, name = line.split(" ", 2)
            if name.startswith(_SAVED):
                # A slurmctld that was killed at once knows again what ``save`` had cancelled.
                self.run("scancel", job, check=False)
            else:
                found[job] = state
        return found

    def clear(self) -> None:
        """Cancel all jobs and wait until all nodes are idle again, restarting what a test killed."""
        if "slurmctld" not in self._children:
            self.start_controller()
        for name in self.names:
            if name not in self._children:
                self.start_node(name)
        self._until(lambda: self._cancelled() and len(self.idle()) == len(self.names), "a site without jobs")

    def close(self) -> None:
        """End everything and remove the folder."""
        for name in ("slurmctld", *self.names):
            if (child := self._children.pop(name, None)) is not None:
                child.terminate()
                with suppress(subprocess.TimeoutExpired):
                    child.wait(5)
                child.kill()
                child.wait()
        until = time.monotonic() + 10
        while (left := self._own_processes()) and time.monotonic() < until:
            kill_trees(left)
            time.sleep(0.02)
        for child in self._children.values():
            child.kill()
            child.wait()
        shutil.rmtree(self.root, ignore_errors=True)

    def _cancelled(self) -> bool:
        for node in self.run("sinfo", "-h", "-N", "-p", "batch", "-t", "down,drain", "-o", "%N", check=False).split():
            self.run("scontrol", "update", f"NodeName={node}", "State=RESUME", check=False)
        jobs = self.run("squeue", "-h", "-o", "%i", check=False).split()
        if jobs:
            self.run("scancel", *jobs, check=False)
        return not jobs

    def _own_processes(self) -> set[int]:
        """Steps and what they started: those that have this site's configuration in their environment."""
        wanted = f"SLURM_CONF={self.conf}".encode()
        daemons = {child.pid for child in self._children.values()}
        found = set()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) not in daemons:
                with suppress(OSError):
                    if wanted in (entry / "environ").read_bytes().split(b"\0"):
                        found.add(int(entry.name))
        return found

    def _start(self, name: str, *argv: str, environment: Mapping[str, str] | None = None) -> None:
        environment = {**self.environment, **(environment or {})}
        with open(self.root / "log" / f"{name}.out", "ab") as out:
            self._children[name] = subprocess.Popen(
                argv, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )

    def _until(self, holds: Callable[[], object], what: str) -> None:
        until = time.monotonic() + PATIENCE
        while not holds():
            if time.monotonic() > until:
                said = "\n".join(p.read_text(errors="replace")[-2000:] for p in sorted((self.root / "log").iterdir()))
                raise TimeoutError(f"no {what} within {PATIENCE:g} s:\n{said}")
            time.sleep(0.05)

    def _write(self, nodes: int, cpus: int, tuned: bool) -> None:
        for folder in ("state", "log", "spool", "munge", "service", "node"):
            (self.root / folder).mkdir(mode=0o755)
        for name in self.names:
            (self.root / "tmp" / name).mkdir(parents=True)
            (self.root / "tmp" / name).chmod(0o1777)
        key = self.root / "munge" / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        jwt = self.root / "jwt.key"
        jwt.write_bytes(os.urandom(32))
        jwt.chmod(0o600)
        ports = _free_ports(1 + nodes)
        host = socket.gethostname()
        root = self.root
        lines = [
            "ClusterName=lab",
            f"SlurmctldHost={host}(127.0.0.1)",
            f"SlurmctldPort={ports[0]}",
            "SlurmUser=root",
            "AuthType=auth/munge",
            # A requeued job starts again only when its former credential has expired, 120 s later by default.
            f"AuthInfo=socket={root}/munge/socket,cred_expire=5",
            f"StateSaveLocation={root}/state",
            f"SlurmctldPidFile={root}/slurmctld.pid",
            f"SlurmctldLogFile={root}/log/slurmctld.log",
            f"SlurmdPidFile={root}/%n.pid",
            f"SlurmdLogFile={root}/log/%n.log",
            f"SlurmdSpoolDir={root}/spool/%n",
            # PMIx makes folders of one name there on each node of a step.
            f"TmpFS={root}/tmp/%n",
            "ProctrackType=proctrack/linuxproc",
            "TaskPlugin=task/none",
            "JobAcctGatherType=jobacct_gather/none",
            "SelectType=select/cons_tres",
            "SelectTypeParameters=CR_Core",
            "MpiDefault=none",
            "GresTypes=gpu",
            "PreemptType=preempt/partition_prio",
            "PreemptMode=REQUEUE",
            "ReturnToService=2",
            "KillWait=3",
            "MessageTimeout=5",
            "SlurmdTimeout=6",
            "MaxJobCount=20000",
            _TUNED if tuned else "",
            *(["AuthAltTypes=auth/jwt", f"AuthAltParameters=jwt_key={root}/jwt.key"] if _jwt_plugin() else []),
            *(
                f"NodeName={name} NodeHostname={host} NodeAddr={self._net}.{4 + index} Port={ports[1 + index]} "
                f"CPUs={cpus} RealMemory=1000 Gres=gpu:2"
                for index, name in enumerate(self.names)
            ),
            f"PartitionName=batch Nodes={','.join(self.names)} Default=YES PriorityTier=5",
            f"PartitionName=low Nodes={','.join(self.names)} PriorityTier=1",
            f"PartitionName=high Nodes={','.join(self.names)} PriorityTier=10 PreemptMode=OFF",
        ]
        self.conf.write_text("\n".join(lines) + "\n")
        # Slurm wants character devices: without, tasks are not told which GPUs are theirs.
        for index in range(2):
            os.mknod(root / f"gpu{index}", 0o20666, os.makedev(1, 3))
        (root / "gres.conf").write_text(f"NodeName={','.join(self.names)} Name=gpu File={root}/gpu[0-1]\n")
        said = subprocess.run(["slurmctld", "-V"], capture_output=True, text=True).stdout.split()[-1]
        version = tuple(int(part) for part in said.split(".")[:2])
        plugin = "disabled" if version >= (23, 11) else "cgroup/v1"
        (root / "cgroup.conf").write_text(f"CgroupPlugin={plugin}\n")


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
        probe.connect(str(path))
        return True
    return False


def _free_ports(count: int) -> list[int]:
    """Ports that nobody has, and that the kernel gives to nobody who asks for any (ip_local_port_range)."""
    found: list[int] = []
    while len(found) < count:
        port = random.randint(15_000, 30_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("", port))
            if port not in found:
                found.append(port)
    return found


def end_signal(pid: int) -> None:
    """SIGKILL to one process, if it is there."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
