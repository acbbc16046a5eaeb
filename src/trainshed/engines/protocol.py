"""The engine protocol: what the controller may ask of whatever provides nodes and runs gangs.

An engine owns nodes. It answers truthfully what became of a gang also after the service was restarted and also when a
node died. All calls are idempotent by the ids that the caller gives; nothing outside ``engines`` names an engine.
The engine keeps the outcome of a gang until the caller says ``forget_gang``: so an outcome is reported at least once,
and applied exactly once because the caller's database refuses the second time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from trainshed.resources.engines import DEFAULT_ENGINE
from trainshed.resources.preemption import StopWarning
from trainshed.resources.reasons import Reason
from trainshed.resources.users import JobUser
from trainshed.resources.volume_sources import VolumeSource


class EngineError(Exception):
    """The engine could not do what was asked; ``reason`` says why and what would help."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.text)
        self.reason = reason


class EngineUnavailable(EngineError):
    """The engine cannot be reached now; asking again later is right. ``engine``: which of several, by name."""

    def __init__(self, reason: Reason, engine: str = "") -> None:
        super().__init__(reason)
        self.engine = engine


@dataclass(frozen=True, slots=True)
class Leader:
    """Who speaks to an engine that several processes can reach: the holder of a database's lease, by its token.

    An engine that was spoken to under one token carries out nothing of a lower one of the same database any more. So a
    process that was frozen while another took over can, when it goes on, start nothing that the other has settled.
    """

    database: str
    token: int


@dataclass(frozen=True, slots=True)
class EngineTraits:
    """What an engine does by itself."""

    #: It queues, prioritises and places gangs, and its nodes are its own. Gangs are handed over as soon as they may
    #: start, with ``node_count`` and without node ids; ``view`` shows the nodes that it gave to a cluster, and
    #: ``add_nodes`` and ``remove_nodes`` are never called.
    queues: bool = False


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """What an engine must know of a cluster."""

    uid: str
    name: str
    #: Decimal number that node ids carry (``tvm-{pool}_{n}-...``).
    pool: int
    low_priority: bool
    vm_size: str
    cpus: int
    memory_mib: int
    gpus: int
    #: nodeSetup of the contract as JSON without secrets, or None; and where the setup task writes
    #: (``{stdOutErrPathPrefix}/{stdOutErrPathSuffix}`` is expanded by the engine's nodes).
    node_setup: dict[str, Any] | None = None
    setup_suffix: str = ""
    setup_secrets: dict[str, str] = field(default_factory=dict)
    volumes: tuple[VolumeSource, ...] = ()
    #: Opened secrets that are no variables, such as the keys of volumes, by JSON pointer. In memory only.
    private: dict[str, str] = field(default_factory=dict, repr=False)
    #: Whose root setup tasks and mount commands run as; None: as the service's own user.
    user: JobUser | None = None
    #: The engine that it is on, by name, and the engine's own settings of it (partition, account, quality of service).
    engine: str = DEFAULT_ENGINE
    options: dict[str, str] = field(default_factory=dict)
    #: The most nodes that its scale settings allow; None where they are not known.
    max_nodes: int | None = None


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """A node that the controller wants to exist. The id is the caller's; asking twice makes one node."""

    node_id: str
    ordinal: int


class NodeCondition(StrEnum):
    """What an engine says of a node."""

    PREPARING = "preparing"
    READY = "ready"
    UNUSABLE = "unusable"
    #: Taken back by whoever owns the machine (a low-priority node, mostly). What ran there is, or will be, LOST. It
    #: stays in ``view`` until ``remove_nodes``. One that is no longer in ``view`` counts as taken back too.
    EVICTED = "evicted"
    #: Died for good, and nobody wanted it to: as with one that was evicted, but what was lost there counts, against the
    #: node and the job where ``reason`` is NodeLost. Nodes that start again by themselves are not lost: they reboot.
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """A node as the engine sees it now."""

    node_id: str
    cluster_uid: str
    condition: NodeCondition
    #: Counts the node's starts: a higher number means it was rebooted, and whatever ran on it is gone.
    boot: int
    host_name: str
    address: str
    #: Where a person can log in, or None where nothing listens.
    ssh_port: int | None = None
    reason: Reason | None = None


class GangResult(StrEnum):
    """How a gang ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class GangSpec:
    """One attempt of a job, to be started on all its nodes or on none."""

    attempt_id: str
    attempt_number: int
    cluster_uid: str
    node_ids: tuple[str, ...]
    subscription: str
    resource_group: str
    workspace: str
    experiment: str
    job: str
    job_uid: str
    segment: str
    #: The job's properties in the contract's JSON form, without secrets' values.
    properties: dict[str, Any]
    secrets: dict[str, str]
    wall_clock_seconds: float | None
    code_store: str | None = None
    code_manifest: dict[str, dict[str, Any]] | None = None
    #: The job's own volumes, and those of its cluster, which its nodes have mounted already.
    volumes: tuple[VolumeSource, ...] = ()
    cluster_volumes: tuple[VolumeSource, ...] = ()
    #: Opened secrets that are no variables, such as the keys of volumes and the password of an image registry, by JSON
    #: pointer. In memory only.
    private: dict[str, str] = field(default_factory=dict, repr=False)
    #: Who its processes run as, the job's own workspace's; None: the service's own user.
    user: JobUser | None = None
    #: How many nodes it needs: as many as ``node_ids`` where the caller chose them, else the engine chooses.
    node_count: int = 0
    #: The job's priority, for an engine that queues; higher first, 0 the usual one.
    priority: int = 0
    #: The cluster's name, for people, and its engine.
    cluster: str = ""
    engine: str = DEFAULT_ENGINE
    #: Name of who submitted the job; empty when nobody signs in.
    submitter: str = ""


@dataclass(frozen=True, slots=True)
class GangStatus:
    """A gang as the engine sees it now. ``result`` is None while any of its processes may be alive."""

    attempt_id: str
    result: GangResult | None = None
    exit_code: int | None = None
    reason: Reason | None = None
    #: Unix time in milliseconds at which the gang ended; None while it is alive.
    ended_at: int | None = None
    #: ``image`` and ``digest`` of the container that it ran in, where it did.
    container: dict[str, str] | None = None
    #: Alive, but still queued by an engine that queues: why, in the engine's own words.
    waiting: Reason | None = None
    #: Unix time in milliseconds at which an engine that queues started it, and the nodes that it got (ids of ``view``).
    started_at: int | None = None
    hosts: tuple[str, ...] = ()
    #: With LOST or STOPPED: the engine has queued the same work again by itself. The next ``start_gang`` with the same
    #: ``job_uid`` takes that up instead of submitting anew; nothing of the job runs before. ``stop_gang`` drops it.
    again: bool = False


@dataclass(frozen=True, slots=True)
class FileServerSpec:
    """What an engine must know of a file server."""

    uid: str
    name: str
    #: All its data disks together.
    disk_bytes: int
    #: Who may log in by SSH: a name, with a public key or a password (or both), from these addresses (``*``: from all;
    #: CIDR ranges too).
    admin_name: str
    admin_key: str = ""
    allowed: tuple[str, ...] = ("*",)
    admin_password: str = field(default="", repr=False)


class FileServerCondition(StrEnum):
    """What an engine says of a file server."""

    STARTING = "starting"
    SERVING = "serving"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class FileServerStatus:
    """A file server as the engine sees it now."""

    uid: str
    condition: FileServerCondition
    address: str = ""
    #: Of NFS and of NFSv3's MOUNT protocol; None where nothing listens and nodes see the directory of the disks itself.
    nfs_port: int | None = None
    mount_port: int | None = None
    #: None where nobody can log in.
    ssh_port: int | None = None
    #: Why it failed or starts once more; and what it has to do without, with the reason, for people.
    reason: Reason | None = None
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EngineView:
    """Everything an engine knows, at one moment: nodes, all gangs not yet forgotten, file servers, uids of clusters.

    Of an engine that queues, nodes are those that it gave to a cluster: seen, not made.
    """

    nodes: tuple[NodeStatus, ...]
    gangs: tuple[GangStatus, ...]
    file_servers: tuple[FileServerStatus, ...] = ()
    clusters: tuple[str, ...] = ()
    #: Those of the clusters whose engine queues: their nodes are its own. Filled in by who puts views together.
    mirrored: frozenset[str] = frozenset()
    #: Where several engines are seen as one: those that cannot be reached now, by name. Nothing here is of them.
    absent: dict[str, Reason] = field(default_factory=dict)


#: Called (from the event loop) whenever something changed. With a gang's final status when that is what changed
#: (the fast path); with None when the caller should read ``view()`` again.
Listener = Callable[[GangStatus | None], None]


class Engine(Protocol):
    """What every engine implements. Methods raise EngineUnavailable when the engine cannot be reached.

    No call takes long: what does goes on by itself, and ``view`` may be of a moment ago.
    """

    @property
    def name(self) -> str:
        """The engine's name as users write it: ``local``, ``hpc`` ..."""
        ...

    @property
    def traits(self) -> EngineTraits:
        """What it does by itself. Known before ``start``, and never changes."""
        ...

    async def start(self, listener: Listener) -> None:
        """Connect, finding again whatever runs already; keeps reconnecting by itself afterwards."""
        ...

    async def close(self) -> None:
        """Let go of the engine; nodes and gangs go on."""
        ...

    async def shut_down(self) -> None:
        """End the engine's own processes where it has any (``trainshed serve --stop-nodes``, ``make demo``)."""
        ...

    async def view(self) -> EngineView:
        """The whole truth now."""
        ...

    async def ensure_cluster(self, cluster: ClusterSpec) -> None:
        """Make the cluster known (subnet, directories). Idempotent."""
        ...

    async def remove_cluster(self, cluster_uid: str) -> None:
        """Forget a cluster that has no nodes left. Its durable directory stays. Idempotent."""
        ...

    async def add_nodes(self, cluster: ClusterSpec, nodes: tuple[NodeSpec, ...]) -> None:
        """Ask for nodes; they appear as PREPARING in ``view`` and become READY or UNUSABLE. Idempotent."""
        ...

    async def remove_nodes(self, node_ids: tuple[str, ...]) -> None:
        """End nodes and whatever runs on them; gone from ``view`` when done. Idempotent."""
        ...

    async def start_gang(self, gang: GangSpec) -> None:
        """Start an attempt. Idempotent by attempt id, also after it ended. Its end comes through the listener."""
        ...

    async def stop_gang(
        self, attempt_id: str, reason: Reason, grace_seconds: float, warning: StopWarning | None = None
    ) -> None:
        """SIGTERM, then SIGKILL after the grace; the gang's status then is STOPPED with this reason. Idempotent.

        One that an engine still queues leaves its queue. Of one that has ended and whose work is queued ``again``, that
        work is dropped, and ``again`` is False from then on.

        With a warning its ranks get that signal first, each once, and it goes on for the warning's seconds. A gang that
        ends meanwhile has SUCCEEDED with 0 and is STOPPED with anything else but its wall clock and its disk limit. A
        further call with a warning changes nothing; one without stops a gang that was only warned. One whose
        processes have not started yet is stopped at once.
        """
        ...

    async def forget_gang(self, attempt_ids: tuple[str, ...]) -> None:
        """The outcomes are recorded elsewhere: drop them. Idempotent."""
        ...

    async def ensure_file_server(self, server: FileServerSpec) -> None:
        """Have it served, also after a restart of the engine; it is in ``view`` from now on. Idempotent.

        Raises EngineError where this engine has no file servers.
        """
        ...

    async def remove_file_server(self, uid: str) -> None:
        """End it; gone from ``view`` when nothing of it is left but its data. Idempotent."""
        ...

    def mount_root(self, cluster_uid: str) -> str | None:
        """Directory on the service's machine that backs the cluster's AZ_BATCHAI_MOUNT_ROOT, or None."""
        ...
