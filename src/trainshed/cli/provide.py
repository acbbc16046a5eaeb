"""Making what ``run`` needs and does not find: workspace, experiment, and a cluster that is large enough."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainshed.cli.accounts import account_settings
from trainshed.cli.errors import CommandError
from trainshed.cli.parents import make_missing
from trainshed.cli.sizes import default_size
from trainshed.client.errors import NotFoundError

if TYPE_CHECKING:
    from trainshed.cli.session import Session
    from trainshed.client.models import Cluster

DEFAULT_CLUSTER = "default"


def provide_parents(session: Session) -> None:
    """The workspace and the experiment, made if they are missing."""
    make_missing(session, experiment=True, even_named=True)


def refuse_existing(session: Session, name: str) -> None:
    """Raise CommandError if there is a job of this name: the same PUT again would quietly be that job."""
    try:
        session.client.jobs.get(name)
    except NotFoundError:
        return
    raise CommandError(
        "JobExists",
        f"there is a job {name} in experiment {session.scope.experiment} already; a job never changes",
        f"another name, or first: trainshed job delete {name}",
    )


def provide_cluster(session: Session, name: str | None, nodes: int, vm_size: str | None) -> Cluster:
    """The cluster to run on.

    One that is missing is made. The default one grows with what is asked of it; one that the user named is left as it
    is, and a job that is too large for it waits and says so.
    """
    wanted = name or (f"{DEFAULT_CLUSTER}-{vm_size.lower()}" if vm_size else DEFAULT_CLUSTER)
    if wanted.startswith("/"):
        return _by_id(session, wanted)
    try:
        cluster = session.client.clusters.get(wanted)
    except NotFoundError:
        return _make(session, wanted, nodes, vm_size)
    target = cluster.target_node_count
    if name is None and target is not None and target < nodes:
        cluster = session.client.clusters.resize(wanted, nodes)
        session.note(f"resized cluster {wanted} from {target} to {nodes} nodes")
    return cluster


def _make(session: Session, name: str, nodes: int, vm_size: str | None) -> Cluster:
    size = vm_size or default_size(session.client, nodes)
    properties: dict[str, Any] = {
        "vmSize": size,
        "scaleSettings": {"manual": {"targetNodeCount": nodes}},
        "userAccountSettings": account_settings(session),
    }
    # Not waited for: the job is queued meanwhile, and says what it waits for.
    cluster = session.client.clusters.create(name, properties, wait=False)
    session.note(f"made cluster {name}: {nodes} node{'' if nodes == 1 else 's'} of size {cluster.vm_size or size}")
    return cluster


def _by_id(session: Session, cluster_id: str) -> Cluster:
    from trainshed.client.models import segment_after

    there = session.client.at(
        subscription=segment_after(cluster_id, "subscriptions"),
        resource_group=segment_after(cluster_id, "resourceGroups"),
        workspace=segment_after(cluster_id, "workspaces"),
    )
    return there.clusters.get(segment_after(cluster_id, "clusters"))
