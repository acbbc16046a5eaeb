"""What isolation the nodes of this machine have, and why not more (``trainshed doctor``).

Looks only: the one thing that is tried out is a set of namespaces, in a child that ends at once.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from pathlib import Path

from trainshed.engines.checks import Check
from trainshed.engines.local import cgroups
from trainshed.engines.local.capacity import OVERSUBSCRIPTION_VARIABLE, Machine
from trainshed.engines.local.fileserver import nfs
from trainshed.engines.local.gpus import driver_is_loaded, list_gpus
from trainshed.engines.local.job_users import hindrance, last_told
from trainshed.engines.local.layout import Layout
from trainshed.resources.users import DEFAULT_RANGE, RANGE_VARIABLE, UserRange
from trainshed.runner import isolation
from trainshed.runner.containers import choice, executor
from trainshed.runner.containers.errors import ContainerError
from trainshed.volumes.file_server import kernel_has_nfs, why_no_client
from trainshed.volumes.tools import kernel_nfs, tools

_LIMITS = {
    "cpu": "a job may use more CPU than its node's VM size has",
    "memory": "a job may use more memory than its node's VM size has",
    "pids": "a job may start any number of processes",
}


def capabilities(home: Path) -> list[Check]:
    """What is in force for the nodes of this home, each with what would give more. Takes some ten milliseconds."""
    checks = [_place(home), *_namespaces(), _users(home), *_limits(), _containers(), _capacity(), _gpus()]
    return [*checks, *_volumes(), _file_servers()]


def _place(home: Path) -> Check:
    """Where the daemon listens: paths of Unix sockets are short (unix(7))."""
    layout = Layout(home.absolute())
    usual = layout.root / "daemon.sock"
    if layout.socket.name == usual.name and layout.socket.parent == layout.root.resolve():
        return Check("node daemon", True, f"{_state(layout)}; its socket is {layout.socket}")
    place = f"the home's path is too long for a socket, so the daemon's is {layout.socket}"
    if os.access(tempfile.gettempdir(), os.W_OK):
        return Check("node daemon", True, f"{_state(layout)}; {place}")
    return Check("node daemon", False, f"{place}, which cannot be made", "choose a shorter TRAINSHED_HOME")


def _state(layout: Layout) -> str:
    return "running" if layout.socket.exists() else "not running; the service starts it"


def _namespaces() -> list[Check]:
    why_not = isolation.permitted("trainshed-doctor")
    if not why_not:
        return [
            Check("process isolation", True, "PID and mount namespaces: nothing of a job outlives it"),
            Check("host names", True, "each node has its own, and an /etc/hosts that knows the gang's nodes"),
        ]
    asked = os.environ.get(isolation.ISOLATION_VARIABLE) == "none"
    mend = f"unset {isolation.ISOLATION_VARIABLE}" if asked else _namespace_mend()
    return [
        Check(
            "process isolation",
            False,
            f"no namespaces ({why_not}): a job's processes are found by their ancestry and killed one by one",
            mend,
            needed=False,
        ),
        Check(
            "host names",
            False,
            f"no namespaces ({why_not}): all nodes have this machine's host name; frameworks that look up their own "
            "name (gloo, JAX) need the address given to them",
            mend,
            needed=False,
        ),
    ]


def _users(home: Path) -> Check:
    """Whom jobs run as, as the service of this home decided when it was started or when others came to use it."""
    name = "job users"
    told = last_told(home)
    if told is not None:
        ok, detail = told
        return Check(name, ok, detail, "" if ok else "run trainshed serve as root, with --isolate-jobs always")
    try:
        why_not = hindrance(UserRange.parse(os.environ.get(RANGE_VARIABLE) or DEFAULT_RANGE))
    except ValueError as error:
        return Check(name, False, str(error), f"unset {RANGE_VARIABLE}", needed=False)
    if why_not:
        detail = f"jobs run as the service's own user; each workspace's cannot have its own: {why_not}"
        return Check(name, False, detail, "run trainshed serve as root", needed=False)
    return Check(name, True, "each workspace's jobs get a user of their own when others than you may submit jobs")


def _namespace_mend() -> str:
    for name, wanted in (
        ("kernel/unprivileged_userns_clone", "1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "0"),
    ):
        switch = Path("/proc/sys", name)
        if switch.exists() and switch.read_text().strip() != wanted:
            return f"sysctl -w {name.replace('/', '.')}={wanted}"
    limit = Path("/proc/sys/user/max_user_namespaces")
    if limit.exists() and limit.read_text().strip() == "0":
        return "sysctl -w user.max_user_namespaces=10000"
    return "run trainshed serve as root (in a container: with --privileged)"


def _limits() -> list[Check]:
    trees = cgroups.trees()
    checks = []
    for controller, consequence in _LIMITS.items():
        name = f"{controller} limits"
        if controller not in trees:
            detail = f"this machine has no cgroup controller {controller}: {consequence}"
            checks.append(Check(name, False, detail, f"boot with the {controller} cgroup enabled", needed=False))
            continue
        tree, version = trees[controller]
        parent = tree / cgroups.PARENT
        if os.access(parent if parent.exists() else tree, os.W_OK):
            checks.append(Check(name, True, f"by cgroup v{version} at {parent}"))
        else:
            mend = f"as root: mkdir -p {parent} && chown -R {os.geteuid()} {parent}, or run trainshed serve as root"
            checks.append(Check(name, False, f"{tree} is not writable: {consequence}", mend, needed=False))
    return checks


def _containers() -> Check:
    """What jobs with containerSettings run in."""
    name = "containers"
    try:
        chosen = choice.chosen()
    except ContainerError as error:
        return Check(name, False, f"jobs cannot have containers: {error.what}", error.way_out, needed=False)
    runtime = executor.runtime() if chosen == "podman" else None
    others = "; ".join(f"{other}: {why_not}" for other, why_not in choice.others(chosen).items())
    return Check(name, True, (f"{chosen} with {runtime.name}" if runtime else chosen) + f" ({others})")


def _capacity() -> Check:
    machine = Machine.here()
    most = machine.cpus * machine.oversubscription
    detail = f"{machine.cpus} CPUs, nodes may have {most:g} cores in all ({OVERSUBSCRIPTION_VARIABLE})"
    if most >= 1:
        return Check("capacity", True, detail)
    return Check("capacity", False, detail, f"unset {OVERSUBSCRIPTION_VARIABLE}")


def _gpus() -> Check:
    gpus = list_gpus()
    if gpus:
        return Check("gpus", True, f"{len(gpus)}, handed out exclusively: {', '.join(gpus)}")
    if not driver_is_loaded():
        return Check("gpus", True, "none: no NVIDIA driver is loaded")
    if importlib.util.find_spec("pynvml") is None:
        detail = "an NVIDIA driver is loaded, and its GPUs cannot be listed without the extra 'gpu'"
        return Check("gpus", False, detail, "pip install 'trainshed[gpu]'", needed=False)
    return Check("gpus", False, "an NVIDIA driver is loaded, and NVML lists no GPU", "nvidia-smi", needed=False)


def _file_servers() -> Check:
    name = "file servers"
    why_not = nfs.why_not()
    if why_not:
        what, _, mend = why_not.partition("; ")
        detail = f"nodes see their directories themselves, without NFS, SSH and a limit of their size: {what}"
        return Check(name, False, detail, mend, needed=False)
    why_not = why_no_client()
    if why_not:
        what, _, mend = why_not.partition("; ")
        return Check(name, False, f"served by nfs-ganesha, but nodes cannot mount them: {what}", mend, needed=False)
    client = kernel_nfs() if kernel_has_nfs() else f"an NFS client in user space; {kernel_nfs()}"
    return Check(name, True, f"served by nfs-ganesha, mounted by {client}")


def _volumes() -> list[Check]:
    """What mounts which kind of volume."""
    return [Check(tool.kind, tool.ok, tool.detail, tool.mend, needed=False) for tool in tools()]
