"""mountVolumes of a job: mounted before preparation, unmounted after the job's processes (behaviour 5.1).

Managed volumes are mounted by the service, in the node's mount namespace, before the job is isolated: the isolation
then shows them. Mount commands are the user's. Where jobs have a user of their own, the commands run in a child that is
root of the job's ground and nobody on the machine.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.runner import linux
from trainshed.runner.commands import run_to_end
from trainshed.runner.failure import FAILED, AttemptEnded
from trainshed.runner.ground import NewGround, enter, reset_child
from trainshed.runner.hands import Forked
from trainshed.runner.isolation import PidNamespace
from trainshed.runner.node import Node
from trainshed.runner.spec import Outcome, View
from trainshed.runner.volume_holder import Wanted
from trainshed.runner.volume_holding import VolumeHolding
from trainshed.runner.volume_places import Base
from trainshed.volumes import CommandResult, Volume, VolumeError, managed, unmanaged

#: Seconds that mounting one volume may take; that unmounting may take to write what is not yet written; and how much
#: longer the child that does it is waited for.
_MOUNT_SECONDS, _UNMOUNT_SECONDS, _MARGIN = 120.0, 60.0, 10.0
_ANSWER_LIMIT = 1 << 16


def start_holding(node: Node) -> VolumeHolding | None:
    """Have the job's managed volumes mounted; None when it has none. ``wait_for_managed`` tells when they are."""
    spec = node.spec
    sources = managed(spec.volumes)
    if not sources:
        return None
    root, jobs = node.environment["AZ_BATCHAI_JOB_MOUNT_ROOT"], spec.directories.job_temp_root
    user = spec.view.user if spec.view is not None else None
    wanted = Wanted(
        sources=tuple(sources),
        secrets=node.private,
        base=Base(jobs, root[len(jobs) :].strip("/"), user),
        user=user,
        folder=f"{spec.directories.state}/volumes",
        cache=spec.directories.volumes or f"{spec.directories.state}/cache",
        node=node.host.name,
    )
    try:
        Path(jobs).mkdir(parents=True, exist_ok=True)
        return VolumeHolding(wanted, node.loop, node.log.write)
    except OSError as error:
        text = f"The volumes cannot be mounted on node {node.host.name}: {error}."
        raise _failed(node, Reason(ReasonCode.VOLUME_MOUNT_FAILED, text)) from error


def wait_for_managed(node: Node, holding: VolumeHolding) -> None:
    """Until the managed volumes are mounted. Raises AttemptEnded."""
    reason = holding.mount()
    if reason is not None:
        raise _failed(node, reason)


def mount_all(node: Node) -> list[Volume]:
    """Mount what the user's own commands mount. Raises AttemptEnded (VolumeMountError)."""
    try:
        volumes = unmanaged(node.spec.volumes, node.environment.get("AZ_BATCHAI_JOB_MOUNT_ROOT", ""))
    except VolumeError as error:
        raise _failed(node, error.reason) from error
    if not volumes:
        return []
    if node.spec.view is not None:
        _mount_as_stranger(node, volumes, node.spec.view)
        return volumes
    mounted: list[Volume] = []
    try:
        for volume in volumes:
            node.log.write(f"mounting {volume.describe()}")
            volume.mount(node.capture)
            mounted.append(volume)
    except VolumeError as error:
        unmount_all(node, mounted)
        raise _failed(node, error.reason) from error
    return mounted


def unmount_all(node: Node, mounted: list[Volume]) -> None:
    """Unmount in the opposite order. What cannot be unmounted ends with the attempt's mount namespace."""
    if node.spec.view is not None:
        _unmount_as_stranger(node, mounted)
        return
    for volume in reversed(mounted):
        try:
            volume.unmount(lambda command: node.capture(command, _UNMOUNT_SECONDS))
        except VolumeError as error:
            node.log.write(str(error))
        except AttemptEnded:
            with suppress(OSError):
                node.log.write(f"unmounting {volume.describe()} was interrupted")


def _mount_as_stranger(node: Node, volumes: list[Volume], view: View) -> None:
    """In a new ground, or in that of the node's setup when it is the same workspace's."""
    assert isinstance(node.isolation, PidNamespace)
    mounts = node.isolation.mounts
    setup = node.setup_ground
    users = setup.users if setup is not None and setup.user == view.user else None
    ground = NewGround()

    def mount(answer: socket.socket) -> None:
        ground.make(lambda: linux.enter_namespace(mounts, linux.CLONE_NEWNS), users)
        _answer(answer, mount_each)

    def mount_each() -> None:
        for volume in volumes:
            volume.mount(run)

    def run(command: str) -> CommandResult:
        return run_to_end(command, node.environment, _MOUNT_SECONDS)

    for volume in volumes:
        node.log.write(f"mounting {volume.describe()}")
    pid, line = _fork(mount)
    try:
        node.ground = ground.open(pid, view.user, users)
    except OSError as error:
        line.close()
        text = f"Mount commands cannot be run as a root of their own on node {node.host.name}: {error.strerror}."
        raise _failed(node, Reason(ReasonCode.VOLUME_MOUNT_FAILED, f"{text} See `trainshed doctor`.")) from error
    node.hands = Forked(view.user, node.ground.mounts, node.ground.users)
    reason = _wait(node, line, len(volumes) * _MOUNT_SECONDS + _MARGIN)
    if reason is not None:
        _unmount_as_stranger(node, volumes)
        raise _failed(node, reason)


def _unmount_as_stranger(node: Node, volumes: list[Volume]) -> None:
    ground = node.ground
    if ground is None:
        return

    def unmount(answer: socket.socket) -> None:
        enter(ground)
        for volume in reversed(volumes):
            with suppress(VolumeError):
                volume.unmount(lambda command: run_to_end(command, node.environment, _UNMOUNT_SECONDS))
        _answer(answer, lambda: None)

    try:
        _, line = _fork(unmount)
        _wait(node, line, len(volumes) * _UNMOUNT_SECONDS + _MARGIN)
    except AttemptEnded:
        node.log.write("unmounting was interrupted")
    finally:
        ground.close()
        node.ground = None


def _fork(act: Callable[[socket.socket], None]) -> tuple[int, socket.socket]:
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        try:
            reset_child()
            os.setsid()
            act(theirs)
        finally:
            os._exit(0)
    theirs.close()
    return pid, ours


def _answer(line: socket.socket, act: Callable[[], None]) -> None:
    """Do it and tell how it went: ``{"reason": null or a reason}``."""
    reason: dict[str, Any] | None = None
    try:
        act()
    except VolumeError as error:
        reason = error.reason.to_json()
    except OSError as error:
        reason = Reason(ReasonCode.VOLUME_MOUNT_FAILED, f"A volume cannot be mounted: {error}.").to_json()
    line.sendall(json.dumps({"reason": reason}).encode())


def _wait(node: Node, line: socket.socket, seconds: float) -> Reason | None:
    """Until the child has told, is gone, or takes too long; the loop goes on meanwhile. Raises AttemptEnded."""
    told = bytearray()
    ended: list[bool] = []

    def read() -> None:
        data = line.recv(_ANSWER_LIMIT)
        told.extend(data)
        if not data:
            ended.append(True)

    node.loop.watch(line, read)
    try:
        node.loop.run_until(lambda: bool(ended), seconds)
    finally:
        node.loop.unwatch(line)
        line.close()
    if not told:
        return Reason(ReasonCode.VOLUME_MOUNT_FAILED, "The mount commands were ended before they had finished.")
    reason = json.loads(told)["reason"]
    return Reason.from_json(reason) if reason else None


def _failed(node: Node, reason: Reason) -> AttemptEnded:
    told = reason.to_json()
    told["details"]["node"] = node.host.name
    return AttemptEnded(Outcome(FAILED, None, told))
