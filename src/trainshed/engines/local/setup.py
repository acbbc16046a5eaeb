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
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainshed.engines.local.leftovers import MARK_VARIABLE
from trainshed.engines.local.messages import encode
from trainshed.engines.local.node_root import setup_as_stranger
from trainshed.resources import directories
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.resources.volume_sources import VolumeSource
from trainshed.runner import isolation, linux
from trainshed.runner.commands import run_to_end
from trainshed.runner.ground import reset_child
from trainshed.runner.inherited import handed_on
from trainshed.runner.spec import View
from trainshed.volumes import VolumeError, unmanaged

_MOUNT_SECONDS = 120.0
#: Characters of the task's standard error that are kept in the reason.
_TAIL = 1024


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


def task_folder(setup: Mapping[str, Any], suffix: str, mount_root: str) -> str:
    """Where the setup task writes its logs, as far as that depends on the mount root alone; else empty."""
    prefix = (setup.get("setupTask") or {}).get("stdOutErrPathPrefix", "")
    return directories.setup_directory(directories.expand(prefix, {"AZ_BATCHAI_MOUNT_ROOT": mount_root}), suffix)


def prepare_node(
    node_id: str,
    setup: Mapping[str, Any],
    suffix: str,
    mount_root: str,
    secrets: Mapping[str, str],
    volumes: Sequence[VolumeSource],
    environment: Mapping[str, str],
) -> Reason | None:
    """Run mount commands and set up. None when the node is ready, else why it is unusable."""
    base = {**environment, "AZ_BATCHAI_MOUNT_ROOT": mount_root, "PYTHONUNBUFFERED": "1"}
    try:
        for volume in unmanaged(volumes, mount_root):
            volume.mount(lambda command: run_to_end(command, base, _MOUNT_SECONDS))
    except VolumeError as error:
        return error.reason
    task = setup.get("setupTask")
    return _run_task(node_id, task, suffix, secrets, base) if task else None


def _run_task(
    node_id: str, task: Mapping[str, Any], suffix: str, secrets: Mapping[str, str], base: Mapping[str, str]
) -> Reason | None:
    environment = dict(base)
    for variable in task.get("environmentVariables") or []:
        environment[variable["name"]] = directories.expand(variable["value"], environment)
    environment.update(secrets)
    prefix = directories.expand(task.get("stdOutErrPathPrefix", ""), environment)
    folder = directories.setup_directory(prefix, suffix)
    names = directories.setup_logs(node_id)
    if not folder.startswith("/"):
        return Reason(
            ReasonCode.SETUP_TASK_FAILED,
            f"The setup task's stdOutErrPathPrefix is {prefix!r} on node {node_id}, which is no absolute path. "
            "Begin it with $AZ_BATCHAI_MOUNT_ROOT.",
            {"node": node_id},
        )
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with open(f"{folder}/{names[0]}", "ab") as stdout, open(f"{folder}/{names[1]}", "ab") as stderr:
            done = subprocess.run(
                ["bash", "-c", task["commandLine"]],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                check=False,
            )
    except OSError as error:
        return Reason(
            ReasonCode.SETUP_TASK_FAILED,
            f"The setup task of node {node_id} could not be started: {error}.",
            {"node": node_id},
        )
    if done.returncode == 0:
        return None
    return Reason(
        ReasonCode.SETUP_TASK_FAILED,
        f"The setup task of node {node_id} ended with exit code {done.returncode}. "
        f"Its output is in {folder}; mend the task, then resize the cluster (to the size that it has, too).",
        {"node": node_id, "exitCode": str(done.returncode), "stderr": _tail(f"{folder}/{names[1]}", secrets)},
    )


def _tail(path: str, secrets: Mapping[str, str]) -> str:
    """The end of a file, with the values of secrets blotted out: the reason is shown to whoever may see the cluster."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
            text = file.read().decode(errors="replace").strip()
    except OSError:
        return ""
    for value in secrets.values():
        if value:
            text = text.replace(value, "***")
    return text
