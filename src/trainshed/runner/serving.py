"""One runner process for several attempts.

Forking an interpreter costs several milliseconds of copied pages, which a job of a millisecond should not pay each
time. So a runner that can go on does.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Mapping
from dataclasses import replace

from trainshed.runner import linux
from trainshed.runner.control import Control
from trainshed.runner.failure import ParentDied
from trainshed.runner.ground import Ground
from trainshed.runner.isolation import PidNamespace
from trainshed.runner.main import carry_out, let_go_of_descriptors
from trainshed.runner.spec import RunnerSpec
from trainshed.volumes import shows_late

#: Attempts after which a serving runner makes room for a fresh one.
_ATTEMPTS_A_PROCESS = 100
_KINDS = {"mnt": linux.CLONE_NEWNS, "pid": linux.CLONE_NEWPID}


def serve(control_fd: int, ground: Ground | None = None) -> None:
    """Carry out one attempt after another, as the parent asks; returns when it asks no more or must not.

    ``ground`` is what the node's setup left, where it ran as a root of its own.

    Attempts that leave nothing in their namespaces but processes share them: the next one begins when the kernel
    knows of no process in there and the mounts are as they were. Before any other the process goes back to the parent's
    namespaces; what it cannot undo (a gang's sockets, a user namespace) makes it the last one. Guarantees are those of
    ``run``.
    """
    control = Control(control_fd)
    namespaces = {os.open(f"/proc/self/ns/{name}", os.O_RDONLY | os.O_CLOEXEC): name for name in _KINDS}
    # By a descriptor: an attempt may leave another /proc in its place, which does not know this process.
    present = os.open("/proc/self/ns", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    keep = {control_fd, present, *namespaces, *(ground.descriptors if ground else ())}
    kept: PidNamespace | None = None
    #: Whether it may go back from any namespace that it enters; one that has none to enter always can.
    returns = _enter(namespaces)
    gc.disable()
    for served in range(1, _ATTEMPTS_A_PROCESS + 1):
        let_go_of_descriptors(keep | (kept.descriptors if kept else set()))
        try:
            message = control.next_attempt()
            spec = replace(RunnerSpec.from_dict(message["run"]), token=message["token"])
            simple = returns and _is_simple(spec)
            if kept is not None and (not simple or kept.view != spec.view or kept.is_broken()):
                kept.kill()
                kept = None
                returns = _return_to(namespaces, present)
            result, left = carry_out(
                spec,
                message["secrets"],
                control,
                private=message["private"],
                kept=kept,
                keep_isolation=simple,
                ground=ground,
            )
        except ParentDied:
            return
        kept = left if isinstance(left, PidNamespace) else None
        again = len(spec.hosts) == 1 and served < _ATTEMPTS_A_PROCESS
        if again and kept is None:
            again = _return_to(namespaces, present)
        control.send({"outcome": result.to_dict(), "attempt": spec.attempt_id, "again": again})
        if not again:
            return


def _is_simple(spec: RunnerSpec) -> bool:
    """Whether the attempt leaves nothing in its namespaces but processes, so that the next one may use them too."""
    others = ("mountVolumes", "jobPreparation", "containerSettings")
    if len(spec.hosts) > 1 or any(spec.properties.get(name) for name in others):
        return False
    return not any(map(shows_late, spec.cluster_volumes))


def _return_to(namespaces: Mapping[int, str], present: int) -> bool:
    """Leave the attempt's namespaces for those that the process came from. False where that is not permitted.

    ``present``: the directory in /proc of the process's namespaces.
    """
    now = {"mnt": "mnt", "pid": "pid_for_children"}
    return _enter(
        {
            descriptor: name
            for descriptor, name in namespaces.items()
            if os.stat(now[name], dir_fd=present).st_ino != os.fstat(descriptor).st_ino
        }
    )


def _enter(namespaces: Mapping[int, str]) -> bool:
    try:
        os.chdir("/")
        for descriptor, name in namespaces.items():
            linux.enter_namespace(descriptor, _KINDS[name])
    except OSError:
        return False
    return True
