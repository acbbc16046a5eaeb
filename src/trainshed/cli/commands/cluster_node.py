"""``trainshed cluster node`` and ``cluster file``."""

from __future__ import annotations

import click

from trainshed.cli import completing, options
from trainshed.cli.session import Session


@click.group()
def node() -> None:
    """The nodes of a cluster."""


@node.command("list")
@options.name("cluster", flags=("-c", "--cluster", "-n", "--name"))
@options.session()
def list_nodes(session: Session, name: str) -> None:
    """List a cluster's nodes: state, address, and why one is not usable."""
    from trainshed.cli.tables import NODES

    session.show_list(
        session.client.clusters.nodes(name),
        NODES,
        name=lambda node: node.get("id", "nodeId"),
        empty=f"cluster {name} has no nodes: trainshed cluster resize {name} -t NODES",
    )


@node.command("evict")
@options.name("cluster", flags=("-c", "--cluster"))
@click.option("-n", "--node", "node_id", required=True, metavar="NODE", help="Id of the node.")
@options.yes
@options.session()
def evict(session: Session, name: str, node_id: str, yes: bool) -> None:
    """Take a node away at once, as the owner of a low-priority node may.

    Its job loses the attempt and is queued again; that counts against nobody. Another node takes its place if the scale
    settings ask for it.
    """
    session.confirm(f"Take node {node_id} away from cluster {name}, whatever runs on it?", yes=yes)
    session.client.clusters.evict_node(name, node_id)
    session.note(f"node {node_id} leaves cluster {name}")


@click.group()
def file() -> None:
    """What the setup task of a cluster's nodes wrote."""


@file.command("list")
@click.option("-c", "--cluster", "cluster", required=True, metavar="NAME", shell_complete=completing.clusters)
@click.option("-p", "--path", default=".", show_default=True, help="Folder below the setup task's output.")
@options.session()
def list_files(session: Session, cluster: str, path: str) -> None:
    """Say where a cluster's setup task writes its files."""
    from pathlib import PurePosixPath

    from trainshed.cli.errors import CommandError

    found = session.client.clusters.get(cluster)
    task = (found.properties.get("nodeSetup") or {}).get("setupTask")
    if not task:
        raise CommandError("NoSetupTask", f"cluster {cluster} has no setup task, so it has no files of one")
    prefix, suffix = task.get("stdOutErrPathPrefix", ""), task.get("stdOutErrPathSuffix", "")
    click.echo(str(PurePosixPath(prefix, suffix, path)))
