"""The directories of an attempt on this node: clears what the node's former job left, makes those of this one.

``AZ_BATCHAI_JOB_TEMP_DIR`` is wiped when the node gets its next job (behaviour 6.1), so a user can look at it until
then. Wiping never follows links and never crosses into a mounted file system.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from trainshed.resources import directories
from trainshed.resources.users import JobUser
from trainshed.runner import linux, trees
from trainshed.runner.claims import claim
from trainshed.runner.failure import directory_error
from trainshed.runner.hands import Hands
from trainshed.runner.spec import RunnerSpec


def wipe(job_temp_root: str, owner: JobUser | None = None) -> None:
    """Remove what lies below the directory of the node's jobs, and make it the owner's.

    Raises AttemptEnded (JobDirectoryError).
    """
    try:
        _refuse_mounts(job_temp_root)
        trees.empty(job_temp_root)
        if owner is not None:
            _give(job_temp_root, owner.uid)
    except FileNotFoundError:
        return
    except OSError as error:
        raise directory_error("AZ_BATCHAI_JOB_TEMP_DIR", error.filename or job_temp_root, error) from error


def _give(folder: str, uid: int) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_uid != uid:
            os.fchmod(descriptor, 0o700)
            os.fchown(descriptor, uid, uid)
    finally:
        os.close(descriptor)


def _refuse_mounts(root: str) -> None:
    """Raise OSError when something is mounted below: its contents are not the node's to delete."""
    prefix = f"{os.path.realpath(root)}/".encode()
    for line in linux.mount_info().splitlines():
        target = line.split(b" ", 5)[4]
        if b"\\" in target:
            target = target.decode("unicode_escape").encode("latin-1")
        if target.startswith(prefix):
            raise OSError(0, "a file system is still mounted there; unmount it", os.fsdecode(target))


def make(spec: RunnerSpec, environment: Mapping[str, str], hands: Hands) -> None:
    """Make the directories that the job's variables name. Raises AttemptEnded (JobDirectoryError).

    Every node makes all of them: a prefix that names no volume is a directory of the node (behaviour 6.2).
    """
    _make("AZ_BATCHAI_JOB_TEMP", environment["AZ_BATCHAI_JOB_TEMP"], hands)
    if spec.node_index == 0 or spec.shared_apart:
        _make("AZ_BATCHAI_SHARED_JOB_TEMP", environment["AZ_BATCHAI_SHARED_JOB_TEMP"], hands)
    if spec.properties.get("mountVolumes"):
        _make("AZ_BATCHAI_JOB_MOUNT_ROOT", environment["AZ_BATCHAI_JOB_MOUNT_ROOT"], hands)


def make_outputs(spec: RunnerSpec, environment: Mapping[str, str], hands: Hands) -> None:
    """Make what may lie on the job's volumes, once they are mounted. Raises AttemptEnded (JobDirectoryError)."""
    for setting, path in output_folders(spec, environment).items():
        if spec.view is not None:
            try:
                claim(spec.view.shared, path, spec.identity.segment, spec.view.user)
            except OSError as error:
                raise directory_error(setting, path, error) from error
        _make(setting, path, hands)


def output_folders(spec: RunnerSpec, environment: Mapping[str, str]) -> dict[str, str]:
    """Path of each directory that the job writes to, by the setting that names it."""
    found = {"stdOutErrPathPrefix": environment["AZ_BATCHAI_STDOUTERR_DIR"]}
    for output in spec.properties.get("outputDirectories") or []:
        found[f"outputDirectories {output['id']}"] = environment[f"AZ_BATCHAI_OUTPUT_{output['id']}"]
    found[directories.CHECKPOINT_VARIABLE] = environment[directories.CHECKPOINT_VARIABLE]
    return found


def root_of_shared(spec: RunnerSpec) -> str:
    """A directory above AZ_BATCHAI_SHARED_JOB_TEMP that no attempt removes: where its node's jobs are."""
    identity, places = spec.identity, spec.directories
    own = directories.job_temp(places.job_temp_root, identity.workspace, identity.experiment, identity.job)
    below = own.removeprefix(places.job_temp_root)
    return places.shared_job_temp.partition(f"{below}/")[0] or places.shared_job_temp


def _make(setting: str, path: str, hands: Hands) -> None:
    if not path.startswith("/"):
        raise directory_error(setting, path or "(empty)", OSError(0, "the path is not absolute"))
    try:
        hands.make_directory(path)
    except OSError as error:
        raise directory_error(setting, path, error) from error
