"""The one file that says all that a runner needs: plain dataclasses, readable and writable as JSON.

Kept free of heavy imports: the node daemon and its forks load it. Secrets travel beside it, in memory only.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from trainshed.resources.users import JobUser
from trainshed.resources.volume_sources import VolumeSource


@dataclass(frozen=True, slots=True)
class HostSpec:
    """One node of the gang."""

    node_id: str
    name: str
    address: str
    cpus: int = 1
    gpus: int = 0


@dataclass(frozen=True, slots=True)
class JobIdentity:
    """Whose attempt this is. ``segment`` is jobOutputDirectoryPathSegment (behaviour 6.2)."""

    subscription: str
    resource_group: str
    workspace: str
    experiment: str
    job: str
    uid: str
    segment: str


@dataclass(frozen=True, slots=True)
class NodeDirectories:
    """Where things lie on one node. Absolute paths."""

    #: AZ_BATCHAI_MOUNT_ROOT: the cluster's volumes; on the local engine the cluster's own durable directory.
    mount_root: str
    #: AZ_BATCHAI_JOB_TEMP_DIR; the job's own directory is made below it.
    job_temp_root: str
    #: AZ_BATCHAI_SHARED_JOB_TEMP: seen by every node of the gang.
    shared_job_temp: str
    #: Where the runner keeps its own files (outcome.json, hosts file); not for the job.
    state: str
    #: Images of containers, of all nodes of the machine; and what the containers of this node write outside of the
    #: job's directories. Empty: below ``state``.
    images: str = ""
    containers: str = ""
    #: Where managed volumes are held and keep what is not written yet, as long as the node exists; not for the job.
    volumes: str = ""


@dataclass(frozen=True, slots=True)
class View:
    """Who the processes of an attempt (or of a node's setup) are, and what they see of the machine's files.

    Everything is read-only to them but ``shared``, ``shown``, and ``/tmp``, ``/var/tmp`` and ``/dev/shm``, which are
    their own.
    """

    user: JobUser
    #: The service's home. Nothing of it is there.
    hidden: str
    #: AZ_BATCHAI_MOUNT_ROOT, which all nodes of the cluster share. It is there all the same, at its own path.
    shared: str
    #: More directories of the home that are there.
    shown: tuple[str, ...]
    #: Directory for what lies behind ``/tmp`` and ``/var/tmp``, for one attempt at a time.
    private: str
    #: Size of ``/dev/shm``; 0 for half of the machine's memory.
    shm_mib: int = 0

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> View:
        """From parsed JSON."""
        return cls(**{**data, "user": JobUser(**data["user"]), "shown": tuple(data["shown"])})


@dataclass(frozen=True, slots=True)
class NodeSetup:
    """nodeSetup of the cluster, where each attempt sees to it (``node_setup``)."""

    #: The cluster's uid.
    cluster: str
    #: setupTask in the contract's JSON form, without secrets' values; and its stdOutErrPathSuffix.
    task: dict[str, Any] | None
    suffix: str
    volumes: tuple[VolumeSource, ...]
    #: On the node's own disk: where it is noted that the task has succeeded.
    folder: str = ""

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> NodeSetup:
        """From parsed JSON."""
        return cls(**{**data, "volumes": tuple(map(VolumeSource.from_json, data["volumes"]))})


@dataclass(frozen=True, slots=True)
class RunnerSpec:
    """One attempt on one node."""

    attempt_id: str
    attempt_number: int
    node_index: int
    hosts: tuple[HostSpec, ...]
    identity: JobIdentity
    directories: NodeDirectories
    #: The job's properties in the contract's JSON form, without secrets' values.
    properties: dict[str, Any]
    #: Seconds of wall clock that the attempt may take; None for no limit.
    wall_clock_seconds: float | None
    #: Seconds between the first signal (SIGTERM) and SIGKILL.
    grace_seconds: float = 5.0
    #: Port on which each runner of a gang of several nodes listens, at its own node's address.
    port: int = 0
    #: Proves to runners that the caller belongs to this attempt. Kept out of files.
    token: str = ""
    #: CUDA_VISIBLE_DEVICES of each host by index; empty strings where the host has no GPU.
    gpu_devices: tuple[str, ...] = ()
    #: Directory of content-addressed code files and the snapshot's manifest (path -> {"sha256", "mode"}), or None.
    code_store: str | None = None
    code_manifest: dict[str, dict[str, Any]] | None = None
    extra_environment: dict[str, str] = field(default_factory=dict)
    #: The job's own volumes, and those of the cluster, which the node has mounted already.
    volumes: tuple[VolumeSource, ...] = ()
    cluster_volumes: tuple[VolumeSource, ...] = ()
    #: None: processes run as the runner's own user and see what it sees.
    view: View | None = None
    #: None: the node is set up already.
    setup: NodeSetup | None = None
    #: The nodes share no file system: AZ_BATCHAI_SHARED_JOB_TEMP, of one path, is each node's own.
    shared_apart: bool = False
    #: The engine's own command that starts ranks in the place of ``mpirun`` (``joining``), on the first node; what it
    #: starts on each node is ``join``. Empty: there is none.
    rank_launcher: tuple[str, ...] = ()

    def to_json(self) -> str:
        """As written to ``spec.json``: everything but the token."""
        data = asdict(self)
        data["token"] = ""
        return json.dumps(data, separators=(",", ":"))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> RunnerSpec:
        """From parsed JSON."""
        data = dict(data)
        data["hosts"] = tuple(HostSpec(**host) for host in data["hosts"])
        data["identity"] = JobIdentity(**data["identity"])
        data["directories"] = NodeDirectories(**data["directories"])
        data["gpu_devices"] = tuple(data.get("gpu_devices") or ())
        data["rank_launcher"] = tuple(data.get("rank_launcher") or ())
        for member in ("volumes", "cluster_volumes"):
            data[member] = tuple(map(VolumeSource.from_json, data.get(member) or ()))
        if data.get("view"):
            data["view"] = View.from_dict(data["view"])
        if data.get("setup"):
            data["setup"] = NodeSetup.from_dict(data["setup"])
        return cls(**data)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an attempt on one node, or of the whole gang. Durable before it is reported."""

    #: ``succeeded``, ``failed``, ``stopped`` (on request) or ``lost``.
    result: str
    exit_code: int | None = None
    #: Reason as JSON (``Reason.to_json``); None on success.
    reason: dict[str, Any] | None = None
    #: Unix time in milliseconds.
    ended_at: int = 0
    #: ``image`` and ``digest`` of the container that it ran in, where it did.
    container: dict[str, str] | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Outcome:
        """From parsed JSON."""
        return cls(**data)
