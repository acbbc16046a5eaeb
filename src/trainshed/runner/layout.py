"""The directories of an attempt on this node: clears what the node's former job left, makes those of this one.

``AZ_BATCHAI_JOB_TEMP_DIR`` is wiped when the node gets its next job (behaviour 6.1), so a user can look at it until
then. Wiping never follows links and never crosses into a mounted file system.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from trainshed.runner import linux
from trainshed.runner.failure import directory_error
from trainshed.runner.spec import RunnerSpec


def wipe(job_temp_root: str) -> None:
    """Remove what lies below the directory of the node's jobs. Raises AttemptEnded (JobDirectoryError)."""
    try:
        _refuse_mounts(job_temp_root)
        _empty(job_temp_root)
    except FileNotFoundError:
        return
    except OSError as error:
        raise directory_error("AZ_BATCHAI_JOB_TEMP_DIR", error.filename or job_temp_root, error) from error


def _empty(directory: str) -> None:
    """Remove everything below. Nothing of the former job lives any more, so nobody swaps links meanwhile."""
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                _empty(entry.path)
                os.rmdir(entry.path)  # noqa: PTH106 - the hot path of every start
            else:
                os.unlink(entry.path)  # noqa: PTH108 - as above


def _refuse_mounts(root: str) -> None:
    """Raise OSError when something is mounted below: its contents are not the node's to delete."""
    prefix = f"{os.path.realpath(root)}/".encode()
    for line in linux.mount_info().splitlines():
        target = line.split(b" ", 5)[4]
        if b"\\" in target:
            target = target.decode("unicode_escape").encode("latin-1")
        if target.startswith(prefix):
            raise OSError(0, "a file system is still mounted there; unmount it", os.fsdecode(target))


def make(spec: RunnerSpec, environment: Mapping[str, str]) -> None:
    """Make the directories that the job's variables name. Raises AttemptEnded (JobDirectoryError).

    Every node makes all of them: a prefix that names no volume is a directory of the node (behaviour 6.2).
    """
    _make("AZ_BATCHAI_JOB_TEMP", environment["AZ_BATCHAI_JOB_TEMP"])
    if spec.node_index == 0:
        _make("AZ_BATCHAI_SHARED_JOB_TEMP", environment["AZ_BATCHAI_SHARED_JOB_TEMP"])
    if spec.properties.get("mountVolumes"):
        _make("AZ_BATCHAI_JOB_MOUNT_ROOT", environment["AZ_BATCHAI_JOB_MOUNT_ROOT"])


def make_outputs(spec: RunnerSpec, environment: Mapping[str, str]) -> None:
    """Make what may lie on the job's volumes, once they are mounted. Raises AttemptEnded (JobDirectoryError)."""
    _make("stdOutErrPathPrefix", environment["AZ_BATCHAI_STDOUTERR_DIR"])
    for output in spec.properties.get("outputDirectories") or []:
        _make(f"outputDirectories {output['id']}", environment[f"AZ_BATCHAI_OUTPUT_{output['id']}"])


def _make(setting: str, path: str) -> None:
    if not path.startswith("/"):
        raise directory_error(setting, path or "(empty)", OSError(0, "the path is not absolute"))
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise directory_error(setting, path, error) from error
