"""A cluster's mount commands and its setup task, carried out on a node (behaviour 3.5 and 3.6). It blocks."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainshed.resources import directories
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.resources.volume_sources import VolumeSource
from trainshed.runner.commands import run_to_end
from trainshed.volumes import Volume, VolumeError, unmanaged

#: Seconds that mounting one volume may take, and unmounting.
MOUNT_SECONDS, UNMOUNT_SECONDS = 120.0, 60.0
#: Characters of the task's standard error that are kept in the reason.
_TAIL = 1024


def task_folder(setup: Mapping[str, Any], suffix: str, mount_root: str) -> str:
    """Where the setup task writes its logs, as far as that depends on the mount root alone; else empty."""
    prefix = (setup.get("setupTask") or {}).get("stdOutErrPathPrefix", "")
    return directories.setup_directory(directories.expand(prefix, {"AZ_BATCHAI_MOUNT_ROOT": mount_root}), suffix)


def setup_environment(environment: Mapping[str, str], mount_root: str) -> dict[str, str]:
    """Of mount commands, and of the task before its own variables."""
    return {**environment, "AZ_BATCHAI_MOUNT_ROOT": mount_root, "PYTHONUNBUFFERED": "1"}


def mount_by_command(volumes: Sequence[VolumeSource], mount_root: str, environment: Mapping[str, str]) -> list[Volume]:
    """Mount what the user's own commands mount. Raises VolumeError."""
    mounted = unmanaged(volumes, mount_root)
    for volume in mounted:
        volume.mount(lambda command: run_to_end(command, environment, MOUNT_SECONDS))
    return mounted


def run_setup_task(
    node_id: str,
    task: Mapping[str, Any],
    suffix: str,
    secrets: Mapping[str, str],
    base: Mapping[str, str],
    *,
    what_next: str = "mend the task, then resize the cluster (to the size that it has, too)",
) -> Reason | None:
    """To its end. None when it succeeded, else why the node is unusable; ``what_next`` tells what would help."""
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
        f"Its output is in {folder}; {what_next}.",
        {"node": node_id, "exitCode": str(done.returncode), "stderr": _tail(f"{folder}/{names[1]}", secrets)},
    )


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
    base = setup_environment(environment, mount_root)
    try:
        mount_by_command(volumes, mount_root, base)
    except VolumeError as error:
        return error.reason
    task = setup.get("setupTask")
    return run_setup_task(node_id, task, suffix, secrets, base) if task else None


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
