"""``trainshed job plan``: what a job file would start where, without running it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from trainshed.cli import completing, options
from trainshed.cli.session import Session

_MASK = "***"


@click.command("plan")
@click.option(
    "-f",
    "--config-file",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Job file, as for `job create`.",
)
@click.option(
    "-c",
    "--cluster",
    metavar="NAME",
    shell_complete=completing.clusters,
    help="Cluster whose VM size tells CPUs and GPUs, by name or ARM id.  [default: the file's, if any]",
)
@click.option(
    "--nodes", type=click.IntRange(1, 100), metavar="N", help="How many nodes.  [default: the file's nodeCount]"
)
@click.option("--gpus", type=click.IntRange(0, 1024), metavar="N", help="GPUs of each node.  [default: the cluster's]")
@click.option(
    "--cpus", type=click.IntRange(1, 65_536), metavar="N", help="CPUs of each node.  [default: the cluster's]"
)
@click.option(
    "--mpi",
    type=click.Choice(["openmpi", "openmpi4", "openmpi5", "mpich", "intel", "none"]),
    default="openmpi",
    show_default=True,
    help="The MPI that the nodes hold; openmpi is Open MPI 5.",
)
@options.session(experiment=True)
def plan(
    session: Session,
    config_file: Path,
    cluster: str | None,
    nodes: int | None,
    gpus: int | None,
    cpus: int | None,
    mpi: str,
) -> None:
    """Show which process of a job would run on which node, with which command and variables. Nothing is run.

    Names, addresses and directories are examples. Secrets stay here and are shown as ***; volumes are not looked at.
    """
    from trainshed.cli.definitions import read_job
    from trainshed.cli.launchplan import tree
    from trainshed.cli.output import Format, structured
    from trainshed.cli.storage import Storage

    # The plan does not depend on volumes: neither their account nor its key is needed.
    properties, version = read_job(config_file, Storage("account", "key"))
    properties.pop("mountVolumes", None)
    _mask(properties)
    if nodes is not None:
        properties["nodeCount"] = nodes
    if cluster is not None:
        properties["cluster"] = {"id": cluster if cluster.startswith("/") else session.client.clusters.get(cluster).id}
    given: dict[str, Any] = {"gpus": gpus, "cpus": cpus, "mpi": mpi}
    assume = {name: value for name, value in given.items() if value is not None}
    made = session.client.jobs.plan(properties, assume=assume, version=version).json
    if session.form in (Format.JSON, Format.YAML):
        click.echo(structured(made, session.form))
    elif session.form is Format.QUIET:
        for process in made["processes"]:
            click.echo(process["commandLine"])
    else:
        click.echo(tree(made))


def _mask(properties: dict[str, Any]) -> None:
    """Secrets' values: the service needs to know that there are any, not which."""
    for secret in properties.get("secrets") or []:
        if isinstance(secret, dict) and secret.get("value"):
            secret["value"] = _MASK
    registry = (properties.get("containerSettings") or {}).get("imageSourceRegistry") or {}
    if (registry.get("credentials") or {}).get("password"):
        registry["credentials"]["password"] = _MASK
