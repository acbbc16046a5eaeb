"""``trainshed cluster``: what exists, and changing its size."""

from __future__ import annotations

import click

from trainshed.cli import options
from trainshed.cli.lazy import LazyGroup
from trainshed.cli.session import Session

_COMMANDS = {
    "create": ("cluster_create", "create", "Create a cluster."),
    "show": ("cluster", "show", "Show a cluster, and what is wrong with it if something is."),
    "list": ("cluster", "list_", "List the workspace's clusters."),
    "resize": ("cluster", "resize", "Set how many nodes it has."),
    "auto-scale": ("cluster", "auto_scale", "Let it follow its queue between two sizes."),
    "delete": ("cluster", "delete", "Delete a cluster; its running jobs are stopped."),
    "node": ("cluster_node", "node", "Its nodes."),
    "file": ("cluster_node", "file", "Files that its setup task wrote."),
}


@click.group(cls=LazyGroup, table=_COMMANDS, aliases={"nodes": "node", "files": "file"})
def cluster() -> None:
    """A cluster is a set of nodes of one size that jobs run on."""


@click.command("show")
@options.name("cluster")
@options.session()
def show(session: Session, name: str) -> None:
    """Show a cluster, and what is wrong with it if something is."""
    from trainshed.cli.tables import CLUSTERS

    found = session.client.clusters.get(name)
    session.show(found, CLUSTERS)
    for problem in found.errors:
        session.note(f"{problem.code}: {problem.message}")


@click.command("list")
@click.option("--watch", is_flag=True, help="Keep the table up to date until Ctrl-C.")
@options.session()
def list_(session: Session, watch: bool) -> None:
    """List the workspace's clusters."""
    from trainshed.cli.output import table
    from trainshed.cli.tables import CLUSTERS

    if watch:
        session.watch(lambda: table(session.client.clusters.list(), CLUSTERS))
    session.show_list(
        session.client.clusters.list(), CLUSTERS, empty="no clusters yet: trainshed cluster create -n NAME -t 2"
    )


@click.command("resize")
@options.name("cluster")
@click.option("-t", "--target", type=click.IntRange(0, 100), required=True, help="Number of nodes.")
@click.option(
    "--deallocation",
    type=click.Choice(["requeue", "terminate", "waitforjobcompletion"]),
    help="What becomes of jobs on nodes that go.  [default: requeue]",
)
@options.session()
def resize(session: Session, name: str, target: int, deallocation: str | None) -> None:
    """Set how many nodes a cluster has."""
    from trainshed.cli.tables import CLUSTERS

    session.show(session.client.clusters.resize(name, target, deallocation=deallocation), CLUSTERS)
    session.next_commands((f"trainshed cluster node list {name}", "see the nodes come and go"))


@click.command("auto-scale")
@options.name("cluster")
@click.option("--min", "minimum", type=click.IntRange(0, 100), required=True, help="Smallest number of nodes.")
@click.option("--max", "maximum", type=click.IntRange(0, 100), required=True, help="Largest number of nodes.")
@click.option("--idle-time", metavar="TIME", help="How long an unused node stays: 0, 90s, 10m.  [default: 5m]")
@options.session()
def auto_scale(session: Session, name: str, minimum: int, maximum: int, idle_time: str | None) -> None:
    """Let a cluster follow its queue between two sizes."""
    from trainshed.cli.commands.cluster_create import add_idle_time
    from trainshed.cli.tables import CLUSTERS

    if minimum > maximum:
        raise click.UsageError(f"--min {minimum} is more than --max {maximum}")
    scale: dict[str, dict[str, str]] = {"autoScale": {}}
    add_idle_time(scale, idle_time)
    idle = scale["autoScale"].get("idleTimeBeforeScaleDown")
    session.show(session.client.clusters.auto_scale(name, minimum, maximum, idle_time=idle), CLUSTERS)


@click.command("delete")
@options.name("cluster")
@options.yes
@options.no_wait
@options.session()
def delete(session: Session, name: str, yes: bool, no_wait: bool) -> None:
    """Delete a cluster; its running jobs are stopped. What they wrote stays."""
    session.confirm(f"Delete cluster {name} and stop the jobs that run on it?", yes=yes)
    there = session.client.clusters.delete(name, wait=not no_wait)
    session.note(f"deleted cluster {name}" if there else f"there is no cluster {name}")
