"""``trainshed queue``: what waits, in which order, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from trainshed.cli import options
from trainshed.cli.session import Session

if TYPE_CHECKING:
    from trainshed.cli.output import Column
    from trainshed.client.models import Record

_EXAMPLES = """\b
Examples:
  trainshed queue                    every cluster of the workspace
  trainshed queue -n gpus --watch    one cluster, again and again
  trainshed queue -o json"""


@click.command("queue", epilog=_EXAMPLES)
@click.option("-n", "--name", "cluster", metavar="CLUSTER", help="Only of this cluster.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="Most jobs of a cluster.")
@click.option("--watch", is_flag=True, help="Redraw until Ctrl-C.")
@options.session()
def queue(session: Session, cluster: str | None, limit: int, watch: bool) -> None:
    """List the jobs that wait for nodes, in the order in which they are served, each with why it waits."""
    from trainshed.cli.output import table

    columns = _columns()
    if watch:
        session.watch(lambda: table(_rows(session, cluster, limit), columns) or "nothing waits")
        return
    session.show_list(
        _rows(session, cluster, limit), columns, name=lambda row: row.get("job"), empty="nothing waits: all jobs run"
    )


def _rows(session: Session, cluster: str | None, limit: int) -> list[Record]:
    from trainshed.client.models import Record

    clusters = session.client.clusters
    names = [cluster] if cluster is not None else [found.name for found in clusters.list()]
    return [Record({"cluster": name, **row.json}) for name in names for row in clusters.queue(name, limit=limit)]


def _columns() -> list[Column[Record]]:
    from trainshed.cli.output import Column
    from trainshed.cli.times import ago, starts_in
    from trainshed.client.models import parse_time

    return [
        Column("Cluster", lambda row: row.get("cluster")),
        Column("#", lambda row: row.get("position")),
        Column("Job", lambda row: row.get("job")),
        Column("Experiment", lambda row: row.get("experiment")),
        Column("User", lambda row: row.get("user") or ""),
        Column("Priority", lambda row: row.get("priority")),
        Column("Nodes", lambda row: row.get("nodeCount")),
        Column("Queued", lambda row: ago(parse_time(row.get("queuedTime")))),
        Column("Starts", lambda row: starts_in(row.get("estimatedStart"))),
        Column("Why", lambda row: row.get("whyWaiting")["message"].split(". ")[0]),
    ]
