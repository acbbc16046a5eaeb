"""mountVolumes of a job: mounted before preparation, unmounted after the job's processes (behaviour 5.1)."""

from __future__ import annotations

from contextlib import suppress

from trainshed.runner.failure import FAILED, AttemptEnded
from trainshed.runner.node import Node
from trainshed.runner.spec import Outcome
from trainshed.volumes import Volume, VolumeError, volumes_of

#: Seconds that unmounting may take to write what is not yet written.
_UNMOUNT_SECONDS = 60.0


def mount_all(node: Node) -> list[Volume]:
    """Mount the job's volumes in the contract's order. Raises AttemptEnded (VolumeMountError and its kin)."""
    described = node.spec.properties.get("mountVolumes")
    if not described:
        return []
    mounted: list[Volume] = []
    try:
        for volume in volumes_of(described, node.environment["AZ_BATCHAI_JOB_MOUNT_ROOT"]):
            node.log.write(f"mounting {volume.describe()}")
            volume.mount(node.capture)
            mounted.append(volume)
    except VolumeError as error:
        unmount_all(node, mounted)
        reason = error.reason.to_json()
        reason["details"]["node"] = node.host.name
        raise AttemptEnded(Outcome(FAILED, None, reason)) from error
    return mounted


def unmount_all(node: Node, mounted: list[Volume]) -> None:
    """Unmount in the opposite order. What cannot be unmounted ends with the attempt's mount namespace."""
    for volume in reversed(mounted):
        try:
            volume.unmount(lambda command: node.capture(command, _UNMOUNT_SECONDS))
        except VolumeError as error:
            node.log.write(str(error))
        except AttemptEnded:
            with suppress(OSError):
                node.log.write(f"unmounting {volume.describe()} was interrupted")
