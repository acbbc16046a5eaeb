"""What a node does before it takes jobs: the cluster's mount commands, then the setup task (behaviour 3.5 and 3.6).

Managed volumes are there already (``Node``).

Runs in a child of the node process, the *holder*, inside the node's own namespaces, so that what it mounts there stays
mounted. What mounting and setup task leave in the background (a FUSE program, an agent) belongs to the node, not to a
job: it stays below the holder, which lives as long as any of it.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from trainshed.engines.local.leftovers import MARK_VARIABLE
from trainshed.engines.local.messages import encode
from trainshed.engines.local.node_root import setup_as_stranger
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.resources.volume_sources import VolumeSource
from trainshed.runner import isolation, linux
from trainshed.runner.ground import reset_child
from trainshed.runner.inherited import handed_on
from trainshed.runner.setup_task import prepare_node, task_folder
from trainshed.runner.spec import View


def hold(
    node_id: str,
    setup: Mapping[str, Any],
    suffix: str,
    mount_root: str,
    secrets: Mapping[str, str],
    volumes: Sequence[VolumeSource],
    answer: socket.socket,
    view: View | None,
) -> None:
    """The holder's life, in a fresh fork: set up, say ``{"prepared": reason or null}``, adopt what stays behind."""
    reset_child()
    os.closerange(3, answer.fileno())
    os.closerange(answer.fileno() + 1, 1 << 20)
    os.setsid()
    linux.set_parent_death_signal(signal.SIGKILL)
    if view is not None:
        told = setup_as_stranger(
            view,
            task_folder(setup, suffix, view.shared),
            lambda environment: prepare_node(node_id, setup, suffix, view.shared, secrets, volumes, environment),
            answer,
        )
        if told:
            _tell(answer, Reason(ReasonCode.SETUP_TASK_FAILED, told, {"node": node_id}))
        answer.close()
        isolation.reap_all()
        return
    linux.become_subreaper()
    environment = {**handed_on(os.environ), MARK_VARIABLE: os.environ.get(MARK_VARIABLE, "")}
    reason = prepare_node(node_id, setup, suffix, mount_root, secrets, volumes, environment)
    _tell(answer, reason)
    answer.close()
    isolation.reap_all()


def _tell(answer: socket.socket, reason: Reason | None) -> None:
    answer.sendall(encode({"prepared": reason.to_json() if reason else None}))
