"""Machines with sshd of their own, made of namespaces: for tests of setting a site up.

Each has a host name, an address, a process tree, ``/run``, and its own changes of ``/etc`` and ``/var``; programs and
``/tmp`` are this machine's. They are on a bridge that is in no other namespace, and end with the tests.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.engines.slurm.slurm_site import why_not as why_no_slurm

PATIENCE = 60.0
_PR_SET_PDEATHSIG = 1
#: Addresses inside of the namespaces only.
_NET = "10.77.7"
_DAEMONS_OWN = ("var/log/", "var/lib/munge/", *(f"var/lib/trainshed-slurm/{name}/" for name in ("slurmctld", "slurmd")))
_INSIDE = """\
set -e
hostname {name}
mount -t tmpfs tmpfs /run
for d in etc var root; do
  mkdir -p {root}/$d {root}/$d.work
  mount -t overlay overlay -olowerdir=/$d,upperdir={root}/$d,workdir={root}/$d.work /$d
done
mkdir -p /run/sshd /run/lock
printf '127.0.0.1 localhost\\n{hosts}' >/etc/hosts
echo 'ann:x:4242:4242::{home}:/bin/sh' >>/etc/passwd
echo 'ann:*:19000:0:99999:7:::' >>/etc/shadow
rm -f /etc/munge/munge.key /etc/slurm/slurm.conf
ip link set lo up
echo ready >{root}/ready
until ip link show eth0 >/dev/null 2>&1; do sleep 0.05; done
ip addr add {address}/24 dev eth0
ip link set eth0 up
exec /usr/sbin/sshd -D -e -f {root}/sshd_config >{root}/log 2>&1
"""


def why_not() -> str:
    """Why there can be no machines here; empty when there can."""
    if why := why_no_slurm():
        return why
    missing = [name for name in ("sshd", "ip", "unshare", "nsenter", "runuser") if shutil.which(name) is None]
    if missing:
        return f"programs are not installed: {', '.join(missing)} (openssh-server, iproute2, util-linux)"
    tried = subprocess.run(["unshare", "-mnup", "--fork", "true"], capture_output=True, text=True)
    return f"no namespaces here: {tried.stderr.strip()}" if tried.returncode else ""


@dataclass(frozen=True)
class Machine:
    """One; ``pid`` is its first process."""

    name: str
    address: str
    root: Path
    process: subprocess.Popen[bytes]
    pid: int
    #: An empty folder, in which commands are run.
    work: Path

    def argv(self, *argv: str) -> list[str]:
        """A command inside of it."""
        return [
            "nsenter",
            f"--target={self.pid}",
            "--mount",
            "--uts",
            "--net",
            "--pid",
            f"--wdns={self.work}",
            "--",
            *argv,
        ]

    def run(
        self, *argv: str, check: bool = True, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """A command inside of it, from its beginning to its end."""
        done = subprocess.run(
            self.argv(*argv),
            text=True,
            capture_output=True,
            timeout=110,
            cwd="/",
            env={**os.environ, **(environment or {})},
        )
        if check and done.returncode:
            raise AssertionError(f"{self.name}: {argv} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done

    def changed(self) -> dict[str, tuple[int, int]]:
        """Size and time of every file below /etc and /var that is not this machine's, but for what daemons write."""
        found = {}
        for top in ("etc", "var"):
            for path in (self.root / top).rglob("*"):
                name = str(path.relative_to(self.root))
                if path.is_file() and not name.startswith(_DAEMONS_OWN):
                    status = path.lstat()
                    found[name] = (status.st_size, status.st_mtime_ns)
        return found

    def daemons(self) -> dict[str, str]:
        """Ids of Slurm's and munge's daemons in it, by name."""
        look = 'for p in /proc/[0-9]*; do echo "${p#/proc/} $(readlink $p/exe)"; done'
        lines = [line.split() for line in self.run("sh", "-c", look).stdout.splitlines()]
        programs = {os.path.realpath(f"/usr/sbin/{name}"): name for name in ("munged", "slurmctld", "slurmd")}
        return {programs[line[1]]: line[0] for line in lines if len(line) == 2 and line[1] in programs}


class Machines:
    """Machines m1, m2 ... which let the key of this folder in, with a directory that all share.

    Root may log in, and ``ann``, who may do nothing.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.shared = root / "shared"
        self.shared.mkdir()
        self.work = root / "work"
        self.work.mkdir()
        self._children: list[subprocess.Popen[bytes]] = []
        self.machines: list[Machine] = []
        for key in ("host", "id_ed25519", "stranger"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(root / key)], check=True)

    def start(self, count: int) -> None:
        """All of them, up to where they can be logged into."""
        self._keys(self.root / "ann" / ".ssh", 4242)
        forever = ["unshare", "--net", "--fork", "--kill-child", "sleep", "infinity"]
        self._bridge = self._start(forever, self.root / "bridge.out")
        self._outer(self._inner(self._bridge), "ip link add br0 type bridge && ip link set br0 up")
        names = [f"m{number + 1}" for number in range(count)]
        self._hosts = "".join(f"{_NET}.{number + 1} {name}\\n" for number, name in enumerate(names))
        for number, name in enumerate(names):
            self.machines.append(self._machine(number, name))
        for machine in self.machines:
            self._until(
                lambda machine=machine: "listening on" in _text(machine.root / "log").lower(), f"{machine.name}'s sshd"
            )

    def __getitem__(self, name: str) -> Machine:
        return next(machine for machine in self.machines if machine.name == name)

    def spawn(self, name: str, *argv: str, out: Path) -> subprocess.Popen[bytes]:
        """A program on a machine that goes on until the machines end."""
        return self._start(self[name].argv(*argv), out)

    def close(self) -> None:
        """End all of them: each has its first process, and the rest ends with that."""
        for child in reversed(self._children):
            with suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)
            child.wait()

    def _machine(self, number: int, name: str) -> Machine:
        root, address = self.root / name, f"{_NET}.{number + 1}"
        self._keys(root / "root" / ".ssh", 0)
        # Interpreters may be below it, and ann uses them.
        (root / "root").chmod(0o711)
        (root / "authorized_keys").write_text((self.root / "id_ed25519.pub").read_text())
        (root / "sshd_config").write_text(
            f"ListenAddress {address}\nHostKey {self.root}/host\nAuthorizedKeysFile {root}/authorized_keys\n"
            f"UsePAM no\nStrictModes no\nPermitRootLogin yes\nPasswordAuthentication no\nPidFile none\n"
        )
        script = _INSIDE.format(home=self.root / "ann", name=name, root=root, hosts=self._hosts, address=address)
        flags = [
            "--mount",
            "--uts",
            "--net",
            "--pid",
            "--propagation=private",
            "--mount-proc",
            "--fork",
            "--kill-child",
        ]
        process = self._start(["unshare", *flags, "sh", "-c", script], root / "log")
        self._until((root / "ready").exists, f"the machine {name}: {_text(root / 'log')}")
        pid = self._inner(process)
        self._outer(
            self._inner(self._bridge),
            f"ip link add v{number} type veth peer name eth0 netns {pid} && ip link set v{number} master br0 up",
        )
        return Machine(name, address, root, process, pid, self.work)

    def _keys(self, folder: Path, user: int) -> None:
        """What lets a user in, and whom it knows."""
        folder.mkdir(parents=True, mode=0o700)
        shutil.copy(self.root / "id_ed25519", folder / "id_ed25519")
        (folder / "known_hosts").write_text(f"m*,{_NET}.* {(self.root / 'host.pub').read_text()}")
        for path in (folder.parent, folder, *folder.iterdir()):
            os.chown(path, user, user)

    def _outer(self, pid: int, script: str) -> None:
        subprocess.run(["nsenter", f"--target={pid}", "--net", "--", "sh", "-c", script], check=True)

    def _inner(self, process: subprocess.Popen[bytes]) -> int:
        """The process that unshare forked."""
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        self._until(lambda: children.read_text().split(), "a namespace's first process")
        return int(children.read_text().split()[0])

    def _start(self, argv: list[str], out: Path) -> subprocess.Popen[bytes]:
        with out.open("ab") as log:
            child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        self._children.append(child)
        return child

    def _until(self, holds: Callable[[], object], what: str) -> None:
        until = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < until, f"no {what} within {PATIENCE:g} s"
            time.sleep(0.02)


def _die_with_parent() -> None:
    """For the child. SIGKILL, since unshare waits for its own child through any milder signal."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""
