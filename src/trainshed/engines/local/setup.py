"""What a node does before it takes jobs: the cluster's volumes, then the setup task (behaviour 3.5 and 3.6).

Runs in a child of the node process, inside the node's own namespaces, so that what it mounts there stays mounted.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainshed.resources import directories
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.volumes import CommandResult, VolumeError, volumes_of

_MOUNT_SECONDS = 120.0
#: Characters of the task's standard error that are kept in the reason.
_TAIL = 1024


def prepare_node(
    node_id: str,
    setup: Mapping[str, Any],
    suffix: str,
    mount_root: str,
    secrets: Mapping[str, str],
    environment: Mapping[str, str],
) -> Reason | None:
    """Mount and set up. None when the node is ready, else why it is unusable."""
    base = {**environment, "AZ_BATCHAI_MOUNT_ROOT": mount_root, "PYTHONUNBUFFERED": "1"}
    try:
        for volume in volumes_of(setup.get("mountVolumes"), mount_root):
            volume.mount(lambda command: _run(command, base))
    except VolumeError as error:
        return error.reason
    task = setup.get("setupTask")
    return _run_task(node_id, task, suffix, secrets, base) if task else None


def _run(command: str, environment: Mapping[str, str]) -> CommandResult:
    try:
        done = subprocess.run(
            ["bash", "-c", command],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_MOUNT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return CommandResult(124, f"no end after {_MOUNT_SECONDS:g} s")
    except OSError as error:
        return CommandResult(127, str(error))
    return CommandResult(done.returncode, done.stdout.decode(errors="replace"))


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
        f"Its output is in {folder}; mend the task and resize the cluster to 0 and back.",
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
