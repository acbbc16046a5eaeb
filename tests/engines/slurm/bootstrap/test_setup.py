"""A site is set up over real SSH on machines made of namespaces, used, changed and taken away."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.slurm.bootstrap.machines import PATIENCE, Machines, why_not

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    """Three, which the tests leave without a Slurm."""
    if why := why_not():
        pytest.skip(why)
    root = Path(tempfile.mkdtemp(prefix="boot-", dir="/tmp"))
    root.chmod(0o755)
    made = Machines(root)
    try:
        made.start(3)
        yield made
    finally:
        made.close()
        shutil.rmtree(root, ignore_errors=True)


def trainshed(machines: Machines, *arguments: str, user: str = "root") -> subprocess.CompletedProcess[str]:
    """A command on m1."""
    environment = {"TRAINSHED_HOME": str(machines.root / ("home" if user == "root" else f"{user}/home"))}
    who = () if user == "root" else ("runuser", "-u", user, "--")
    return machines["m1"].run(*who, sys.executable, "-m", "trainshed", *arguments, check=False, environment=environment)


def bootstrap(machines: Machines, hosts: str, *more: str, user: str = "root") -> subprocess.CompletedProcess[str]:
    directory = machines.shared if user == "root" else machines.shared / user
    given = ("--hosts", hosts, "--directory", str(directory), *more)
    return trainshed(machines, "engine", "bootstrap", "slurm", "team", *given, user=user)


def state(machines: Machines) -> object:
    """All that a run could change."""
    home = machines.root / "home"
    return (
        [machine.changed() for machine in machines.machines],
        [machine.daemons() for machine in machines.machines],
        list(machines.shared.iterdir()),
        (home / "engines.json").read_bytes() if (home / "engines.json").exists() else None,
    )


STRANGER = ("--ssh-option=IdentityFile={root}/stranger",)
FEDORA = "rm /etc/os-release; printf 'ID=fedora\\nVERSION_ID=40\\n' >/etc/os-release"


@pytest.mark.parametrize(
    ("before", "more", "code", "mend"),
    [
        ("", ["--ssh-port", "23"], "HostUnreachable", "--ssh-port"),
        ("", [*STRANGER, "--ssh-option=IdentitiesOnly=yes"], "LoginRefused", "ssh-copy-id"),
        ("", ["--ssh-option", "UserKnownHostsFile=/dev/null"], "HostKeyUnknown", "ssh-keyscan"),
        ("", ["--user", "ann"], "NoRoot", "sudo"),
        ("echo ClusterName=other >/etc/slurm/slurm.conf", [], "OtherSlurm", "engine add slurm"),
        (FEDORA, [], "UnsupportedSystem", "Debian 12"),
        ("mount -t tmpfs tmpfs {root}/shared", [], "DirectoryNotShared", "NFS"),
    ],
)
def test_what_stands_in_the_way_is_said_and_nothing_is_changed(
    machines: Machines, before: str, more: list[str], code: str, mend: str
) -> None:
    undo = (
        "rm -f /etc/slurm/slurm.conf /etc/os-release; ln -s ../usr/lib/os-release /etc/os-release; "
        "umount {root}/shared 2>/dev/null"
    )
    machines["m2"].run("sh", "-c", before.format(root=machines.root) or ":")
    try:
        was = state(machines)
        done = bootstrap(machines, "m1,m2", "--yes", *(word.format(root=machines.root) for word in more))
        assert done.returncode == 1
        (told,) = [line for line in done.stderr.splitlines() if line.startswith("error: m2: ")]
        assert f" {code}: " in told and mend in told
        assert state(machines) == was
    finally:
        machines["m2"].run("sh", "-c", undo.format(root=machines.root), check=False)


def test_one_host_that_is_away_is_named(machines: Machines) -> None:
    done = bootstrap(machines, "m1,m9", "--yes")
    assert done.returncode == 1
    assert "error: m9: HostUnreachable: " in done.stderr and "error: m1" not in done.stderr


@pytest.mark.timeout(400)
def test_a_site_from_nothing_to_nothing(machines: Machines) -> None:
    bare = state(machines)
    assert "PartitionName=main Nodes=m1,m2" in _good(bootstrap(machines, "m1,m2", "--dry-run")).stdout
    assert state(machines) == bare
    asked = bootstrap(machines, "m1,m2")
    assert asked.returncode == 1 and "ConfirmationRequired" in asked.stderr and state(machines) == bare

    first = _good(bootstrap(machines, "m1,m2", "--yes"))
    assert "a job ran on m1,m2" in first.stderr and "apt" not in first.stderr
    _key_is_in_no_output(machines, first)
    assert [sorted(machine.daemons()) for machine in machines.machines] == [
        ["munged", "slurmctld", "slurmd"],
        ["munged", "slurmd"],
        [],
    ]
    site = state(machines)
    assert "nothing to do" in _good(bootstrap(machines, "m1,m2", "--yes")).stderr
    assert state(machines) == site

    _a_job_runs_on_it(machines)
    refused = bootstrap(machines, "m1,m2", "--undo", "--yes")
    assert refused.returncode == 1 and "clusters use engine 'team'" in refused.stderr
    _good(trainshed(machines, "cluster", "delete", "there", "--yes"))

    # A host and a partition more; a slurmd that died is started again.
    machines["m2"].run("kill", "-9", machines["m2"].daemons()["slurmd"])
    more = _good(bootstrap(machines, "m1,m2,m3", "--low-partition", "low", "--yes", "-o", "json"))
    outcomes = json.loads(more.stdout)["outcomes"]
    assert all(outcome["done"] for outcome in outcomes) and outcomes[-1]["said"] == "a job ran on m1,m2,m3"
    low = machines["m1"].run("srun", "-p", "low", "-N3", "uname", "-n").stdout
    assert sorted(low.split()) == ["m1", "m2", "m3"]

    gone = _good(bootstrap(machines, "m1,m2,m3", "--undo", "--yes"))
    assert "engine team is removed" in gone.stderr
    assert [machine.daemons() for machine in machines.machines] == [{}, {}, {}]
    for machine in machines.machines:
        left = [path for path in machine.changed() if "slurm" in path]
        assert left == []
    assert _good(trainshed(machines, "engine", "list")).stdout == "local\n"


def _good(done: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done


def _key_is_in_no_output(machines: Machines, done: subprocess.CompletedProcess[str]) -> None:
    keys = [machine.run("base64", "-w0", "/etc/munge/munge.key").stdout for machine in machines.machines[:2]]
    assert keys[0] == keys[1] and len(keys[0]) > 1000
    assert keys[0] not in done.stdout + done.stderr
    owner = machines["m2"].run("stat", "-c", "%U %a", "/etc/munge/munge.key").stdout
    assert owner == "munge 400\n"


def _a_job_runs_on_it(machines: Machines) -> None:
    """Through the service on m1, on both nodes."""
    home = machines.root / "home"
    log = machines.root / "serve.out"
    service = machines.spawn(
        "m1",
        "env",
        "TRAINSHED_ISOLATION=none",
        sys.executable,
        "-m",
        "trainshed",
        "serve",
        "--home",
        str(home),
        out=log,
    )
    until = time.monotonic() + PATIENCE
    while not (home / "service.json").exists():
        assert service.poll() is None and time.monotonic() < until, log.read_text()
        time.sleep(0.1)
    create = ("cluster", "create", "there", "--engine", "team", "-s", "STANDARD_D1", "-t", "2")
    _good(trainshed(machines, *create))
    job = "echo $TRAINSHED_SLURM_NODELIST as $(id -un)"
    ran = trainshed(machines, "run", "-c", "there", "-n", "2", "--", "sh", "-c", job)
    assert ran.returncode == 0 and "m[1-2] as root" in ran.stdout, f"{ran.stdout}\n{ran.stderr}"


#: A stand-in for systemd's command: it writes down what it was told, and starts and ends daemons as their units do.
SYSTEMCTL_DOUBLE = """\
#!/bin/sh
echo "$*" >>/run/systemctl.calls
for unit; do :; done
[ "$1" = enable ] && exit 0
case $unit in munge) program=munged pid=/run/munge/munged.pid;; *) program=$unit pid=/run/$unit.pid;; esac
if [ -e $pid ]; then
    was=$(cat $pid); kill $was
    while [ -d /proc/$was ]; do sleep 0.1; done
fi
[ "$1" = restart ] || exit 0
install -d -o munge -g munge /run/munge
case $unit in munge) exec runuser -u munge -- munged;; *) exec $program;; esac
"""


@pytest.mark.timeout(240)
def test_services_of_one_host_that_is_another_than_this(machines: Machines) -> None:
    """With a double of systemd; for a service that is not root's, whose engine speaks to that host by SSH."""
    there = machines["m3"]
    refused = bootstrap(machines, "m3", "--yes", user="ann")
    assert refused.returncode == 1 and "DirectoryNotShared" in refused.stderr
    (machines.shared / "ann").mkdir(mode=0o700)
    os.chown(machines.shared / "ann", 4242, 4242)
    (machines.root / "systemctl").write_text(SYSTEMCTL_DOUBLE)
    there.run("mount", "-t", "tmpfs", "tmpfs", "/usr/local/sbin")
    there.run("install", "-m755", str(machines.root / "systemctl"), "/usr/local/sbin/systemctl")
    there.run("mkdir", "-p", "/run/systemd/system")
    first = _good(bootstrap(machines, "m3", "--yes", user="ann"))
    assert "a job ran on m3" in first.stderr and "warning" not in first.stderr
    shown = _good(trainshed(machines, "engine", "show", "team", user="ann")).stdout
    assert "ssh = m3" in shown and "cluster = partition=main" in shown
    assert there.run("cat", "/run/systemctl.calls").stdout.splitlines() == [
        f"{word} {unit}" for unit in ("munge", "slurmctld", "slurmd") for word in ("enable", "restart")
    ]
    assert "a job of a moment as ann" in first.stderr
    assert "nothing to do" in _good(bootstrap(machines, "m3", user="ann")).stderr
    _good(bootstrap(machines, "m3", "--undo", "--yes", user="ann"))
    assert "disable --now slurmctld" in there.run("cat", "/run/systemctl.calls").stdout
    assert list(there.daemons()) == ["munged"]
