"""``trainshed status``: the service, its clusters and its queue at a glance."""

from __future__ import annotations

from typing import Any

import click

from trainshed.cli import options
from trainshed.cli.session import Session


@click.command()
@options.session(workspace=False)
def status(session: Session) -> int:
    """The service, its clusters and its queue at a glance. Exits 1 when the service is not ready."""
    import json

    from trainshed.cli.output import Format, structured, table
    from trainshed.cli.tables import CLUSTERS
    from trainshed.client.models import Cluster

    connection = session.client.connection
    ready, said = session.client.probes.ready()
    try:
        told_of = dict(json.loads(said))
    except ValueError:
        told_of = {}
    clusters, jobs = _gather(session) if ready else ([], {})
    if session.form in (Format.JSON, Format.YAML):
        told = {
            "url": connection.url,
            "pid": connection.pid,
            "ready": ready,
            **{name: told_of[name] for name in ("role", "leader", "draining") if name in told_of},
            "clusters": [cluster.json for cluster in clusters],
            "jobs": jobs,
        }
        click.echo(structured(told, session.form))
        return 0 if ready else 1
    process = f" (pid {connection.pid})" if connection.pid else ""
    click.echo(f"service  {connection.url}{process}: {'ready' if ready else 'not ready: ' + said}")
    if "leader" in told_of:
        click.echo(f"leader   {told_of['leader']}; this process: {told_of['role']}")
    if "draining" in told_of:
        click.echo(f"draining {told_of['draining']}")
    if not ready:
        session.note("try: trainshed doctor")
        return 1
    if session.form is Format.QUIET:
        return 0
    counted = ", ".join(f"{count} {state}" for state, count in jobs.items()) or "none"
    click.echo(f"jobs     {counted}")
    if clusters:
        rows: list[Cluster] = clusters
        click.echo("\n" + table(rows, CLUSTERS))
    else:
        click.echo("clusters none: trainshed cluster create -n NAME -t 2, or trainshed run -- COMMAND makes one")
    return 0


def _gather(session: Session) -> tuple[list[Any], dict[str, int]]:
    """All clusters, and how many jobs are in each state."""
    from trainshed.resources.lifecycle import JobState

    clusters: list[Any] = []
    counts: dict[str, int] = {}
    for workspace in session.client.workspaces.list(everywhere=True):
        there = session.client.at(resource_group=workspace.resource_group, workspace=workspace.name)
        clusters.extend(there.clusters.list())
        for experiment in there.experiments.list():
            for job in there.at(experiment=experiment.name).jobs.list():
                state = job.execution_state.value
                counts[state] = counts.get(state, 0) + 1
    return clusters, {state.value: counts[state.value] for state in JobState if state.value in counts}
