"""Prepares a node for an attempt whose processes are not to be trusted: a user of their own, a view of their own."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from functools import cache
from pathlib import Path

from trainshed.resources.reasons import ReasonCode
from trainshed.runner import claims, hosts, isolation, linux, view
from trainshed.runner.failure import directory_error, failed
from trainshed.runner.hands import Forked, Worn
from trainshed.runner.isolation import PidNamespace
from trainshed.runner.node import Node
from trainshed.runner.spec import View

#: Processes and threads that one workspace may have on the machine, as a share of all that the kernel can have. The
#: node's control group, where there is one, is stricter.
_SHARE = 4
_FEWEST = 1024


def isolate(node: Node, seen: View, why_not: str | None, parent_death_signal: int) -> None:
    """Put the attempt into its view; afterwards ``node.hands`` are the job's user. Raises AttemptEnded.

    An isolation that the node has already is that of an attempt of the same view, and is used again.
    """
    if seen.user.problem:
        raise _impossible(node, seen.user.problem)
    if why_not is None:
        why_not = isolation.permitted(node.host.name)
    if why_not or os.geteuid() != 0:
        raise _impossible(node, why_not or "the node's processes do not run as root")
    _limit()
    try:
        view.prepare_private(seen)
        claims.open_to_all(seen.shared)
    except OSError as error:
        raise directory_error("AZ_BATCHAI_MOUNT_ROOT", error.filename or seen.private, error) from error
    kept = node.isolation
    again = isinstance(kept, PidNamespace)
    if not isinstance(kept, PidNamespace):
        kept = _new(node, seen)
        node.isolation = kept
    node.log.write(f"isolation: {kept.description} ({seen.user.uid}){', those of the attempt before' if again else ''}")
    if parent_death_signal:
        linux.set_parent_death_signal(parent_death_signal)
    worn = Worn(seen.user, kept.mounts, parent_death_signal)
    if again:
        _forget_memory(worn)
    node.inside = node.hands = worn
    ground = node.setup_ground
    if ground is not None and ground.user == seen.user:
        # File systems in user space that the setup mounted serve only those who are in its user namespace.
        node.hands = Forked(seen.user, kept.mounts, ground.users)


def _forget_memory(worn: Worn) -> None:
    """What the attempt before left in memory that processes share. Raises AttemptEnded."""
    try:
        linux.unshare(linux.CLONE_NEWIPC)
        worn.empty(view.SHARED_MEMORY)
    except OSError as error:
        raise directory_error(view.SHARED_MEMORY, error.filename or view.SHARED_MEMORY, error) from error


def _new(node: Node, seen: View) -> PidNamespace:
    state = node.spec.directories.state
    try:
        files = view.accounts(seen.user, node.spec.directories.job_temp_root, state)
        files[hosts.HOSTS_FILE] = hosts.write(node.spec.hosts, state)
        base = node.setup_ground.mounts if node.setup_ground else None
        fuse = bool(node.spec.properties.get("mountVolumes"))
        return isolation.isolate_stranger(node.host.name, seen, lambda: view.build(seen, files, base, fuse=fuse))
    except OSError as error:
        raise _impossible(node, f"{error.strerror} {error.filename or ''}".strip()) from error


def _limit() -> None:
    """What descendants inherit. The runner itself is root, whom the number of processes does not bind."""
    linux.forbid_new_privileges()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    most = processes_of_a_workspace()
    if hard == resource.RLIM_INFINITY or hard > most:
        resource.setrlimit(resource.RLIMIT_NPROC, (most, most))


@cache
def processes_of_a_workspace() -> int:
    """The limit that stands behind the control groups."""
    with suppress(OSError, ValueError):
        return max(_FEWEST, int(Path("/proc/sys/kernel/pid_max").read_text()) // _SHARE)
    return _FEWEST


def _impossible(node: Node, why: str) -> Exception:
    return failed(
        ReasonCode.JOB_LAUNCH_FAILED,
        f"The job cannot run as a user of its own on node {node.host.name}, and must not run as another one: {why}. "
        "See `trainshed doctor`, or start the service with --isolate-jobs never if you trust every job.",
        {"node": node.host.name},
    )
