"""Where things of a job lie: generated paths, file names and the variables that name them. Standard library only.

Sources: behaviour 6 (layout, file names) and 7 (environment variables), rest-contract section 6.
Paths are POSIX paths as text; nothing here touches a file system.
"""

from __future__ import annotations

import posixpath
import re
from collections import ChainMap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))", re.ASCII)

#: Id of the standard output directory in listOutputFiles.
STDOUTERR = "stdouterr"
#: Id of the directory of its checkpoints there, which every job has; and the variable that names its path.
CHECKPOINTS = "checkpoints"
CHECKPOINT_VARIABLE = "TRAINSHED_CHECKPOINT_DIR"
#: The directory below ``stdouterr`` of the logs that are nobody's in the contract.
RANKS = "ranks"
#: Log files of toolkits that have one pair for all their processes (behaviour 6.3).
MAIN_LOGS = ("stdout.txt", "stderr.txt")


def expand(text: str, environment: Mapping[str, str]) -> str:
    """Replace ``$NAME`` and ``${NAME}`` as a shell would: an undefined variable becomes nothing (behaviour 5.1)."""
    return _VARIABLE.sub(lambda match: environment.get(match[1] or match[2], ""), text)


def join(*parts: str) -> str:
    """Join path parts with single slashes; empty parts are left out, a later leading slash does not start anew."""
    kept = [part for part in parts if part]
    if not kept:
        return ""
    head = kept[0].rstrip("/")
    if not head and len(kept) == 1:
        return "/"
    return "/".join([head, *(part.strip("/") for part in kept[1:] if part.strip("/"))])


def is_below(path: str, root: str) -> bool:
    """Whether ``path``, with ``.`` and ``..`` resolved as text, is ``root`` or lies below it. Both must be absolute."""
    if not (path.startswith("/") and root.startswith("/")):
        return False
    path, root = posixpath.normpath("/" + path.lstrip("/")), posixpath.normpath("/" + root.lstrip("/"))
    return root == "/" or path == root or path.startswith(f"{root}/")


def segment(subscription: str, resource_group: str, workspace: str, experiment: str, job: str, uid: str) -> str:
    """jobOutputDirectoryPathSegment; the group in lower case (rest-contract section 6)."""
    return f"{subscription}/{resource_group.lower()}/workspaces/{workspace}/experiments/{experiment}/jobs/{job}/{uid}"


def setup_segment(subscription: str, resource_group: str, workspace: str, cluster: str, uid: str) -> str:
    """stdOutErrPathSuffix of a cluster's setup task (behaviour 3.5)."""
    return f"{subscription}/{resource_group.lower()}/workspaces/{workspace}/clusters/{cluster}/{uid}"


def stdouterr_directory(prefix: str, segment: str) -> str:
    """Where standard output, standard error and the execution log lie (behaviour 6.2)."""
    return join(prefix, segment, STDOUTERR)


def kept_logs(mount_root: str, segment: str) -> str:
    """Below which a job's logs are kept while its own place for them shows files only once they are closed.

    In it is a directory for each node of the gang, by its index, that is laid out like the ``stdouterr`` directory.
    """
    return join(mount_root, ".kept-logs", segment, STDOUTERR)


def output_directory(prefix: str, segment: str, suffix: str | None = None) -> str:
    """Where an output directory lies: the word ``outputs`` is between segment and suffix (behaviour 6.2)."""
    return join(prefix, segment, "outputs", suffix or "")


def checkpoint_directory(prefix: str, segment: str) -> str:
    """Where a job's checkpoints lie, the same for all its attempts: beside the output directories of that prefix."""
    return join(prefix, segment, CHECKPOINTS)


def setup_directory(prefix: str, segment: str) -> str:
    """Where the logs of a setup task lie: no further folder (rest-contract section 6)."""
    return join(prefix, segment)


def job_temp(root: str, workspace: str, experiment: str, job: str) -> str:
    """AZ_BATCHAI_JOB_TEMP, below AZ_BATCHAI_JOB_TEMP_DIR (behaviour 6.1)."""
    return join(root, workspace, experiment, job)


def job_mount_root(job_temp: str) -> str:
    """AZ_BATCHAI_JOB_MOUNT_ROOT: where the job's own volumes appear."""
    return join(job_temp, "mounts")


def host_file(job_temp: str) -> str:
    """AZ_BATCHAI_MPI_HOST_FILE."""
    return join(job_temp, "hostfile")


def host_file_text(hosts: Iterable[tuple[str, int, int]]) -> str:
    """An Open MPI host file: for each node its address, the processes on it, and the most that it takes."""
    return "".join(f"{address} slots={slots} max_slots={most}\n" for address, slots, most in hosts)


def machine_file_text(hosts: Iterable[tuple[str, int]]) -> str:
    """The same for MPICH and Intel MPI, which do not read Open MPI's form: each node's address and processes."""
    return "".join(f"{address}:{slots}\n" for address, slots in hosts)


def rank_logs(index: int) -> tuple[str, str]:
    """Log files of one process of PyTorch and Caffe2."""
    return f"stdout-{index}.txt", f"stderr-{index}.txt"


def launched_logs(rank: int | str) -> tuple[str, str]:
    """Log files of one rank that MPI or torchrun starts, besides the launcher's."""
    return f"{RANKS}/stdout-{rank}.txt", f"{RANKS}/stderr-{rank}.txt"


def task_logs(role: str, index: int) -> tuple[str, str]:
    """Log files of one TensorFlow task; ``role`` is ``wk`` or ``ps``."""
    return f"stdout-{role}-{index}.txt", f"stderr-{role}-{index}.txt"


def preparation_logs(host_name: str | None = None) -> tuple[str, str]:
    """Log files of job preparation; the node's host name is added when the job has several nodes."""
    tail = f"-{host_name}" if host_name else ""
    return f"stdout-job_prep{tail}.txt", f"stderr-job_prep{tail}.txt"


def execution_log(host_name: str | None = None) -> str:
    """The service's own log of an attempt; the master's has no suffix."""
    return f"execution-{host_name}.log" if host_name else "execution.log"


def setup_logs(node_id: str) -> tuple[str, str]:
    """Log files of the setup task on one node (behaviour 3.5)."""
    return f"stdout-{node_id}.txt", f"stderr-{node_id}.txt"


@dataclass(frozen=True, slots=True)
class JobPlace:
    """Where an attempt runs: what its variables are made of. Directories are absolute."""

    workspace: str
    experiment: str
    job: str
    #: jobOutputDirectoryPathSegment.
    segment: str
    #: AZ_BATCHAI_MOUNT_ROOT.
    mount_root: str
    #: AZ_BATCHAI_JOB_TEMP_DIR.
    job_temp_root: str
    #: AZ_BATCHAI_SHARED_JOB_TEMP.
    shared_job_temp: str
    #: Addresses of the gang's nodes, first the master.
    addresses: Sequence[str]
    #: GPUs of this node.
    gpus: int = 0
    #: 1 for the first run of a job.
    attempt_number: int = 1
    #: Values of the job's secrets by variable name.
    secrets: Mapping[str, str] = field(default_factory=dict)
    #: The node's own variables (PATH, HOME ...), which the job has too and may name.
    node_environment: Mapping[str, str] = field(default_factory=dict)


def service_environment(place: JobPlace) -> dict[str, str]:
    """The variables that do not depend on what the job describes (behaviour 6.1 and 7)."""
    temp = job_temp(place.job_temp_root, place.workspace, place.experiment, place.job)
    return {
        "AZ_BATCHAI_MOUNT_ROOT": place.mount_root,
        "AZ_BATCHAI_JOB_MOUNT_ROOT": job_mount_root(temp),
        "AZ_BATCHAI_JOB_TEMP": temp,
        "AZ_BATCHAI_JOB_TEMP_DIR": place.job_temp_root,
        "AZ_BATCHAI_SHARED_JOB_TEMP": place.shared_job_temp,
        "AZ_BATCHAI_MPI_HOST_FILE": host_file(temp),
        "AZ_BATCHAI_NUM_GPUS": str(place.gpus),
        "AZ_BATCH_HOST_LIST": ",".join(place.addresses),
    }


def job_environment(
    properties: Mapping[str, Any], place: JobPlace, base: Mapping[str, str] | None = None
) -> dict[str, str]:
    """All variables of preparation and job: the service's, the directories', the user's, the secrets.

    ``properties`` is the job in the contract's JSON form. A user's variable may name the service's and those before it,
    and a directory's path may name the user's (behaviour 5.1), so the user's are first expanded without the
    directories' and then once more with them. Secrets are taken as they are: a ``$`` in a password stays.
    ``base`` is the node's own environment (PATH, HOME ...): it can be named, and is not part of the answer.
    """
    service = {**place.node_environment, **service_environment(place)}
    user = properties.get("environmentVariables") or []
    node = dict(base or {})
    known = {**node, **_with_user_variables(service, user, place.secrets, node)}
    own = dict(service)
    own["AZ_BATCHAI_STDOUTERR_DIR"] = stdouterr_directory(
        expand(properties.get("stdOutErrPathPrefix") or "", known), place.segment
    )
    for directory in properties.get("inputDirectories") or []:
        own[f"AZ_BATCHAI_INPUT_{directory['id']}"] = expand(directory["path"], known)
    own[CHECKPOINT_VARIABLE] = checkpoint_directory(_lasting(properties, service, known), place.segment)
    for directory in properties.get("outputDirectories") or []:
        path = output_directory(
            expand(directory["pathPrefix"], known), place.segment, expand(directory.get("pathSuffix") or "", known)
        )
        own[f"AZ_BATCHAI_OUTPUT_{directory['id']}"] = path
        own[f"AZ_BATCHAI_PREV_OUTPUT_{directory['id']}"] = path if place.attempt_number > 1 else ""
    return _with_user_variables(own, user, place.secrets, node)


def _lasting(properties: Mapping[str, Any], service: Mapping[str, str], known: Mapping[str, str]) -> str:
    """A directory that outlives the job's nodes: the first output directory's that does, else the cluster's own."""
    roots = [service["AZ_BATCHAI_MOUNT_ROOT"]]
    if properties.get("mountVolumes"):
        roots.append(service["AZ_BATCHAI_JOB_MOUNT_ROOT"])
    for directory in properties.get("outputDirectories") or []:
        prefix = expand(directory["pathPrefix"], known)
        if any(is_below(prefix, root) for root in roots):
            return prefix
    return roots[0]


def output_path(properties: Mapping[str, Any], directory_id: str, environment: Mapping[str, str]) -> str | None:
    """The absolute path of an output directory by its id, or None if the job has no such. ``stdouterr`` is one of them,
    and ``checkpoints`` where the job has none of its own by that id.

    ``environment`` is what job_environment gave, or service_environment's where the job's nodes are gone.
    """
    if directory_id == STDOUTERR:
        return environment.get("AZ_BATCHAI_STDOUTERR_DIR")
    if any(directory["id"] == directory_id for directory in properties.get("outputDirectories") or []):
        return environment.get(f"AZ_BATCHAI_OUTPUT_{directory_id}")
    if directory_id == CHECKPOINTS:
        return environment.get(CHECKPOINT_VARIABLE)
    return None


def _with_user_variables(
    own: Mapping[str, str],
    user: Sequence[Mapping[str, str]],
    secrets: Mapping[str, str],
    node: dict[str, str],
) -> dict[str, str]:
    environment = {**own, **secrets}
    for variable in user:
        environment[variable["name"]] = expand(variable["value"], ChainMap(environment, node))
    return environment
