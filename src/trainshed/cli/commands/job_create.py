"""``trainshed job create``, with the arguments of ``az batchai job create`` (behaviour section 12)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from trainshed.cli import completing, options
from trainshed.cli.session import Session
from trainshed.cli.storage import Storage, storage_options


@click.command("create")
@options.name("job")
@click.option(
    "-f",
    "--config-file",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Job file: the contract's JSON; comments are allowed.",
)
@click.option(
    "-c",
    "--cluster",
    metavar="NAME",
    shell_complete=completing.clusters,
    help="Cluster, by name or ARM id.  [default: the file's]",
)
@click.option(
    "--code",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Send this folder's code, as `run` does; the job starts in it.",
)
@click.option(
    "--retries",
    type=click.IntRange(0, 100),
    metavar="N",
    help="Try it again N times when it fails.  [default: the file's retryPolicy]",
)
@options.dependencies
@click.option(
    "--mount",
    "mounts",
    multiple=True,
    metavar="PLACE=WHAT",
    help="Mount /DIRECTORY, s3://BUCKET/PREFIX or git+URL#REVISION at $AZ_BATCHAI_JOB_MOUNT_ROOT/PLACE; then ,ro or "
    ",cache=GB. May be repeated.",
)
@storage_options
@options.no_wait
@options.session(experiment=True)
def create(
    session: Session,
    name: str,
    config_file: Path,
    cluster: str | None,
    code: Path | None,
    retries: int | None,
    after: tuple[str, ...],
    after_ok: tuple[str, ...],
    after_any: tuple[str, ...],
    mounts: tuple[str, ...],
    no_wait: bool,
    storage: Storage,
) -> None:
    """Submit a job. (`trainshed job wait` and `job logs -f` follow it.)"""
    from trainshed.cli.codesending import send_code
    from trainshed.cli.definitions import read_job
    from trainshed.cli.dependencies import depends_on
    from trainshed.cli.mounts import add_mounts
    from trainshed.cli.parents import with_parents
    from trainshed.cli.provide import refuse_existing
    from trainshed.cli.tables import JOBS
    from trainshed.client.transport import API_VERSION

    properties, version = read_job(config_file, storage)
    refuse_existing(session, name)
    properties["cluster"] = {"id": _cluster_id(session, properties, cluster)}
    volumes = storage.add_to(properties.get("mountVolumes") or {}, session)
    if volumes:
        properties["mountVolumes"] = volumes
    if mounts:
        properties["mountVolumes"] = add_mounts(volumes, mounts, os.environ)
        version = API_VERSION
    if code is not None:
        # Only the newer version has the member.
        properties["codeSnapshot"] = with_parents(session, lambda: send_code(session, code))
        version = API_VERSION
    if retries is not None:
        properties["retryPolicy"] = {**(properties.get("retryPolicy") or {}), "maxRetries": retries}
        version = API_VERSION
    if others := depends_on(session, after, after_ok, after_any):
        properties["dependsOn"] = [*(properties.get("dependsOn") or []), *others]
    if properties.get("dependsOn"):
        # Passed over by the original version, the job would not wait.
        version = API_VERSION
    job = with_parents(
        session,
        lambda: session.client.jobs.create(name, properties, wait=not no_wait, version=version),
        experiment=True,
    )
    session.show(job, JOBS)
    session.next_commands(
        (f"trainshed job logs -f {name}", "follow its log"),
        (f"trainshed job wait {name}", "wait for its end"),
        (f"trainshed job explain {name}", "see why it waits"),
        (f"trainshed job terminate {name}", "stop it"),
    )


def _cluster_id(session: Session, properties: dict[str, Any], given: str | None) -> str:
    """The ARM id of the cluster that the argument or the file names; it must exist."""
    if given and given.startswith("/"):
        return given
    if given:
        return session.client.clusters.get(given).id
    found: str | None = (properties.get("cluster") or {}).get("id")
    if not found:
        raise click.UsageError("which cluster? give -c NAME, or cluster.id in the job file")
    return found
