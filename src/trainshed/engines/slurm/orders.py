"""What a job of Slurm's is to carry out: the files that its first node reads, written before it is submitted."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trainshed.engines.protocol import ClusterSpec, EngineError, GangSpec
from trainshed.engines.slurm.node import places
from trainshed.engines.slurm.node.places import Places, Ticket
from trainshed.engines.slurm.owners import Owner, acting_as, make_folder
from trainshed.engines.slurm.settings import ClusterOptions, SlurmSettings
from trainshed.resources.preemption import warning_of
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.runner.code import blob_path
from trainshed.runner.spec import JobIdentity, NodeDirectories, NodeSetup, RunnerSpec

#: Seconds between two looks of a node at what the service tells; one more for so many nodes of the gang.
_LOOK_AGAIN, _NODES_A_SECOND = 0.25, 100
#: Seconds by which Slurm may send a signal before its time (sbatch(1): --signal).
_SIGNAL_EARLY = 90.0
#: Grace in seconds of an attempt whose end is not asked for, where Slurm gives as much (KillWait).
_GRACE = 5.0


@dataclass(frozen=True, slots=True)
class Cluster:
    """What is kept of a cluster."""

    uid: str
    name: str
    pool: int
    cpus: int
    memory_mib: int
    gpus: int
    options: dict[str, str]
    #: nodeSetup of the contract without secrets' values, and where its task writes below its prefix.
    node_setup: dict[str, Any] | None = None
    setup_suffix: str = ""
    #: As JSON (``VolumeSource.to_json``).
    volumes: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, spec: ClusterSpec) -> Cluster:
        """What the protocol says of it, as far as it matters here."""
        return cls(
            spec.uid,
            spec.name,
            spec.pool,
            spec.cpus,
            spec.memory_mib,
            spec.gpus,
            dict(spec.options),
            spec.node_setup,
            spec.setup_suffix,
            [source.to_json() for source in spec.volumes],
        )

    @property
    def has_setup(self) -> bool:
        """Whether anything is to be done on a node before its jobs."""
        return bool(self.volumes or (self.node_setup or {}).get("setupTask"))

    @property
    def node_prefix(self) -> str:
        """Before Slurm's name of a node: two clusters may have the same nodes."""
        return f"{self.pool}-"


@dataclass(frozen=True, slots=True)
class SetupSecrets:
    """Opened secrets of a cluster's nodeSetup: variables of its task, and others by JSON pointer. In memory only."""

    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    private: Mapping[str, str] = field(default_factory=dict, repr=False)


def check_own_user(gang: GangSpec, settings: SlurmSettings) -> None:
    """Raises EngineError for a job that must not run as the service's own user."""
    if gang.user is not None and not settings.shares_user:
        raise EngineError(
            Reason(
                ReasonCode.JOB_LAUNCH_FAILED,
                "The service keeps the jobs of different workspaces apart by Unix users of their own, and on this "
                "Slurm site it would run as the service's user. Give it a 'unix_user' in the engine's map of users, or "
                "set the engine's 'share_user' to yes where that is acceptable.",
                {"setting": "share_user"},
            )
        )


def write_order(
    root: Places,
    ticket: Ticket,
    run: int,
    gang: GangSpec,
    cluster: Cluster,
    settings: SlurmSettings,
    setup_secrets: SetupSecrets,
    *,
    owner: Owner | None,
    addresses: Mapping[str, str],
    former: tuple[str, int] | None,
    kill_wait: float,
    minutes: int | None,
    alike: str = "",
    entry: str = "",
) -> None:
    """Put down what this run carries out, for its user (None: the service's). Raises OSError."""
    attempt = root.attempt(gang.attempt_id)
    make_folder(attempt.folder, owner)
    make_folder(ticket.folder, owner)
    store = _put_code(gang, attempt.code, owner)
    grace = min(_GRACE, max(1.0, kill_wait - 1.0))
    stop = Reason(ReasonCode.JOB_TERMINATED, "Slurm asked the job's processes to end.")
    first, count = settings.port_range
    order = {
        "root": str(root.root),
        "ticket": str(ticket.folder),
        "spec": _spec(gang, root, cluster, grace, store),
        "addresses": dict(addresses),
        "node_prefix": cluster.node_prefix,
        "gpus": cluster.gpus,
        "srun": settings.srun_arguments,
        "mpi": options_of(cluster, settings).mpi,
        "node_directory": settings.node_directory,
        "port_base": first,
        "port_count": count,
        "lease": settings.lease_seconds,
        "look_again": _LOOK_AGAIN + node_count(gang) / _NODES_A_SECOND,
        "warning": _warning(gang, grace),
        "expiring": _expiring(gang, grace, minutes),
        "ending": {"stop": stop.to_json(), "grace": grace},
        "alike": alike,
        "entry": entry,
        "former": {"attempt_id": former[0], "nodes": former[1]} if former else None,
    }
    private = {
        "secrets": gang.secrets,
        # Pointers of a job and of nodeSetup are never the same.
        "private": {**setup_secrets.private, **gang.private},
        "setup_secrets": dict(setup_secrets.variables),
        "token": secrets.token_hex(16),
    }
    with acting_as(owner):
        # It is there from the beginning: a network file system tells at once that a file has grown, not that it came.
        attempt.told.touch(0o600)
        places.write(ticket.private(run), private)
        places.write(ticket.order(run), order, durable=True)


def node_count(gang: GangSpec) -> int:
    """Of a gang, however it is said."""
    return gang.node_count or len(gang.node_ids) or 1


def options_of(cluster: Cluster, settings: SlurmSettings) -> ClusterOptions:
    """Raises InvalidSettings."""
    return settings.options(cluster.options)


def _warning(gang: GangSpec, grace: float) -> dict[str, Any] | None:
    warning = warning_of(gang.properties)
    if warning is None:
        return None
    reason = Reason(
        ReasonCode.PREEMPTED, f"Slurm takes the nodes of the job away within {warning.seconds:g} s.", {"by": "Slurm"}
    )
    return {"stop": reason.to_json(), "grace": grace, "warning": warning.to_json()}


def _expiring(gang: GangSpec, grace: float, minutes: int | None) -> dict[str, Any] | None:
    """The same warning comes before Slurm's time limit of the job, which is not pre-emption; and when, in seconds."""
    warning = warning_of(gang.properties)
    if warning is None or minutes is None:
        return None
    text = (
        f"The job reaches the {minutes} minutes that it may run on its partition and is stopped. Give the cluster a "
        "partition with a longer limit, or make the job save checkpoints and do less in one job."
    )
    reason = Reason(ReasonCode.JOB_WALL_CLOCK_EXCEEDED, text, {"maxWallClockSeconds": str(minutes * 60)})
    told = {"stop": reason.to_json(), "grace": grace, "warning": warning.to_json()}
    return {"after": max(0.0, minutes * 60 - warning.seconds - _SIGNAL_EARLY), "tell": told}


def _spec(gang: GangSpec, root: Places, cluster: Cluster, grace: float, store: str | None) -> dict[str, Any]:
    identity = JobIdentity(
        gang.subscription,
        gang.resource_group,
        gang.workspace,
        gang.experiment,
        gang.job,
        gang.job_uid,
        gang.segment,
    )
    spec = RunnerSpec(
        attempt_id=gang.attempt_id,
        attempt_number=gang.attempt_number,
        node_index=0,
        hosts=(),
        identity=identity,
        # The other directories are the node's, which only the node knows.
        directories=NodeDirectories(str(root.mount_root(cluster.uid)), "", "", ""),
        properties=gang.properties,
        wall_clock_seconds=gang.wall_clock_seconds,
        grace_seconds=grace,
        code_store=store,
        code_manifest=gang.code_manifest,
        volumes=gang.volumes,
    )
    data = asdict(spec)
    data["volumes"] = [source.to_json() for source in gang.volumes]
    data["cluster_volumes"] = [source.to_json() for source in gang.cluster_volumes]
    if cluster.has_setup:
        task = (cluster.node_setup or {}).get("setupTask")
        setup = asdict(NodeSetup(cluster.uid, task, cluster.setup_suffix, ()))
        data["setup"] = {**setup, "volumes": cluster.volumes}
    return data


def _put_code(gang: GangSpec, target: Path, owner: Owner | None) -> str | None:
    """The files of the job's snapshot, where nodes see them: linked where that can be, else copied.

    Another user's are copies: a link would be the service's own file.
    """
    if gang.code_store is None or gang.code_manifest is None:
        return None
    for digest in {entry["sha256"] for entry in gang.code_manifest.values()}:
        place, source = Path(blob_path(str(target), digest)), blob_path(gang.code_store, digest)
        with open(source, "rb") as blob, acting_as(owner):
            if place.exists():
                continue
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if owner is None:
                with suppress(OSError):
                    os.link(source, place)
                    continue
            new = place.with_name(f"{place.name}.new")
            with open(new, "wb") as copy:
                shutil.copyfileobj(blob, copy)
            new.rename(place)
    return str(target)
