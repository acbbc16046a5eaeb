"""An attempt that sees to its cluster's nodeSetup itself: managed volumes first, then ``node_setup``."""

from __future__ import annotations

from pathlib import Path

from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.runner.failure import FAILED, LOST, AttemptEnded
from trainshed.runner.node import Node
from trainshed.runner.node_setup import Preparing, Wanted, missing_for_volumes
from trainshed.runner.spec import NodeSetup, Outcome
from trainshed.runner.volume_holder import Wanted as WantedVolumes
from trainshed.runner.volume_holding import VolumeHolding
from trainshed.runner.volume_places import Base
from trainshed.volumes import managed


class ClusterSetup:
    """What an attempt has of it on one node. ``end`` has to be called, whatever ``carry_out`` came to."""

    def __init__(self, node: Node, setup: NodeSetup) -> None:
        self._node = node
        self._setup = setup
        self._holding: VolumeHolding | None = None
        self._preparing: Preparing | None = None

    def carry_out(self) -> None:
        """Mount the volumes and have the setup task run. Raises AttemptEnded: a node that fails is the cluster's
        trouble, not the job's, which is queued again.
        """
        if self._setup.volumes:
            self._enter_own_mounts()
            self._mount_managed()
        node = self._node
        node.log.write("setting the node up, unless that was done before")
        mount_root = node.spec.directories.mount_root
        try:
            self._preparing = Preparing(Wanted(self._setup, node.host.name, mount_root, node.setup_secrets), node.loop)
        except OSError as error:
            text = f"The setup of node {node.host.name} cannot be started: {error}."
            raise self._ended(LOST, Reason(ReasonCode.SETUP_TASK_FAILED, text)) from error
        reason = self._preparing.wait()
        if reason is not None:
            raise self._ended(LOST, reason)

    def end(self) -> list[Reason]:
        """Unmount, once nobody writes any more; what could not be written."""
        if self._preparing is not None:
            self._preparing.end()
        return self._holding.end() if self._holding is not None else []

    def _enter_own_mounts(self) -> None:
        missing = missing_for_volumes()
        if missing:
            name = self._node.host.name
            text = (
                f"The volumes of the cluster cannot be mounted on node {name}: they need a mount namespace of the "
                f"job's own, and {missing}. Run the service as root where that may be, or let the nodes mount them and "
                "name them as hostDirectories."
            )
            raise self._ended(FAILED, Reason(ReasonCode.VOLUME_MOUNT_FAILED, text, {"missing": missing}))

    def _mount_managed(self) -> None:
        node, sources = self._node, managed(self._setup.volumes)
        if not sources:
            return
        directories = node.spec.directories
        wanted = WantedVolumes(
            sources=tuple(sources),
            secrets=node.private,
            base=Base(directories.mount_root),
            user=None,
            folder=f"{directories.volumes}/cluster-held",
            cache=directories.volumes,
            node=node.host.name,
        )
        try:
            Path(directories.mount_root).mkdir(parents=True, exist_ok=True)
            Path(directories.volumes).mkdir(mode=0o700, parents=True, exist_ok=True)
            self._holding = VolumeHolding(wanted, node.loop, node.log.write)
        except OSError as error:
            text = f"The volumes of the cluster cannot be mounted on node {node.host.name}: {error}."
            raise self._ended(LOST, Reason(ReasonCode.VOLUME_MOUNT_FAILED, text)) from error
        reason = self._holding.mount()
        if reason is not None:
            raise self._ended(LOST, reason)

    def _ended(self, result: str, reason: Reason) -> AttemptEnded:
        told = reason.to_json()
        told["details"]["node"] = self._node.host.name
        return AttemptEnded(Outcome(result, None, told), grace=0.0)
