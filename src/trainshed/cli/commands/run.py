"""``trainshed run``: from a folder and a command to a running job, in one line."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

import click

from trainshed.cli import completing, options
from trainshed.cli.session import Session

_EXAMPLES = """\b
Examples:
  trainshed run -- python train.py
  trainshed run --name prepare --detach -- python prepare.py
  trainshed run --after-ok prepare -- python train.py
  trainshed run --name sweep --array 0-9%2 -- 'python train.py --seed $TRAINSHED_ARRAY_INDEX'
  trainshed run --after-any last --no-code -- ./clean-up.sh"""


@click.command(context_settings={"allow_interspersed_args": False}, epilog=_EXAMPLES)
@click.option("-n", "--nodes", type=click.IntRange(1, 100), default=1, show_default=True, help="Nodes, all at once.")
@click.option("-s", "--vm-size", metavar="SIZE", help="Size of the nodes, when a cluster is made.")
@click.option(
    "-c", "--cluster", metavar="NAME", shell_complete=completing.clusters, help="Cluster.  [default: default]"
)
@click.option("--name", metavar="NAME", help="The job's name.  [default: a friendly one]")
@click.option(
    "--toolkit",
    type=click.Choice(["custom", "mpi", "pytorch", "torchrun", "jax", "deepspeed", "accelerate", "lightning", "ray"]),
    metavar="NAME",
    default="custom",
    show_default=True,
    help="custom: once, on the first node. mpi: each rank. pytorch, jax, deepspeed, accelerate, lightning: a script "
    "on each rank. torchrun: by torchrun. ray: a script beside a Ray cluster.",
)
@click.option("--processes", type=click.IntRange(1), metavar="N", help="Ranks in all.  [default: one a node, or a GPU]")
@click.option("--backend", default="gloo", show_default=True, help="PyTorch's communication: gloo, tcp, nccl or mpi.")
@click.option("--env", "environment", multiple=True, metavar="K=V", help="Environment variable; may be repeated.")
@click.option("--secret", "secrets", multiple=True, metavar="K[=V]", help="As --env, but never shown again.")
@click.option("--output", "outputs", multiple=True, metavar="ID", help="Output directory $AZ_BATCHAI_OUTPUT_ID.")
@click.option("--time-limit", metavar="TIME", help="Stop it after this time: 90s, 15m, 2h, 1d.")
@click.option("--priority", type=click.Choice(["low", "normal", "high"]), help="Place in the queue.")
@click.option("--prepare", metavar="COMMAND", help="Runs first, on every node.")
@click.option("--retries", type=click.IntRange(0, 100), metavar="N", help="Try it again N times when it fails.")
@options.dependencies
@click.option(
    "--mount",
    "mounts",
    multiple=True,
    metavar="PLACE=WHAT",
    help="Mount /DIRECTORY, s3://BUCKET/PREFIX or git+URL#REVISION at $AZ_BATCHAI_JOB_MOUNT_ROOT/PLACE; then ,ro or "
    ",cache=GB. May be repeated.",
)
@click.option(
    "--array",
    metavar="INDICES[%N]",
    help="A job for each index, $TRAINSHED_ARRAY_INDEX: 0-9,20-30:2; with %N at most N of them at once.",
)
@click.option("--no-code", is_flag=True, help="Don't send this folder's code.")
@click.option("--detach", is_flag=True, help="Submit, and don't stay.")
@click.option("--download", type=click.Path(file_okay=False, path_type=Path), help="Fetch the outputs here at the end.")
@options.session(experiment=True, long_output=False)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND...")
def run(
    session: Session,
    nodes: int,
    vm_size: str | None,
    cluster: str | None,
    name: str | None,
    toolkit: str,
    processes: int | None,
    backend: str,
    environment: tuple[str, ...],
    secrets: tuple[str, ...],
    outputs: tuple[str, ...],
    time_limit: str | None,
    priority: str | None,
    prepare: str | None,
    retries: int | None,
    after: tuple[str, ...],
    after_ok: tuple[str, ...],
    after_any: tuple[str, ...],
    mounts: tuple[str, ...],
    array: str | None,
    no_code: bool,
    detach: bool,
    download: Path | None,
    command: tuple[str, ...],
) -> int:
    """Run a command on a cluster with this folder's code, and stay with it.

    Makes what is missing (workspace, experiment, cluster), sends the folder's files but for those that
    .trainshedignore or .gitignore names, prints the output as it comes and exits as the job did. The job writes what
    is to be kept to $AZ_BATCHAI_OUTPUT_OUTPUT.

    Ctrl-C leaves the job running; a second one within 3 seconds terminates it.
    """
    from trainshed.cli.arrays import array_of, submit_array
    from trainshed.cli.codesending import send_code
    from trainshed.cli.dependencies import depends_on
    from trainshed.cli.following import follow
    from trainshed.cli.mounts import add_mounts
    from trainshed.cli.naming import friendly_name
    from trainshed.cli.output import Format, structured
    from trainshed.cli.provide import provide_cluster, provide_parents, refuse_existing
    from trainshed.cli.submission import Submission, Toolkit

    submission = Submission(
        command=command,
        nodes=nodes,
        toolkit=Toolkit(toolkit),
        processes=processes,
        environment=_environment(environment),
        secrets=_secrets(session, secrets),
        outputs=outputs,
        time_limit=_time_limit(time_limit),
        priority=priority,
        prepare=prepare,
        retries=retries,
        dependencies=depends_on(session, after, after_ok, after_any),
        backend=backend,
        volumes=add_mounts({}, mounts, os.environ),
    )
    submission.properties("", None)
    indices = None if array is None else array_of(array)
    provide_parents(session)
    if name and indices is None:
        refuse_existing(session, name)
    on = provide_cluster(session, cluster, nodes, vm_size)
    snapshot = None if no_code else send_code(session, Path.cwd())
    name = name or friendly_name()
    if indices is not None:
        return submit_array(session, name, {**submission.properties(on.id, snapshot), "array": indices})
    job = session.client.jobs.create(name, submission.properties(on.id, snapshot), wait=False)
    if detach:
        click.echo(structured(job.json, session.form) if session.form in (Format.JSON, Format.YAML) else name)
        session.next_commands(
            (f"trainshed job logs -f {name}", "follow its log"),
            (f"trainshed job wait {name}", "wait for its end"),
        )
        return 0
    code, ended = follow(session, job)
    if ended is not None and ended.final:
        if download is not None:
            from trainshed.cli.downloads import download_outputs

            download_outputs(session, ended, ended.output_ids, download)
        session.next_commands(
            (f"trainshed job logs {name}", "read its log again"),
            (f"trainshed job files download {name}", "fetch its logs and outputs"),
        )
    return code


def _environment(given: Iterable[str]) -> dict[str, str]:
    """``K=V``, or ``K`` for the value that it has here."""
    found = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals:
            if key not in os.environ:
                raise click.UsageError(f"--env {key} takes its value from here, but {key} is not set")
            value = os.environ[key]
        found[key] = value
    return found


def _secrets(session: Session, given: Iterable[str]) -> dict[str, str]:
    """``K=V``; for ``K`` alone the value is taken from the environment, or asked for."""
    found = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals:
            if key in os.environ:
                value = os.environ[key]
            elif sys.stdin.isatty():
                value = click.prompt(key, hide_input=True, err=True)
            else:
                raise click.UsageError(
                    f"--secret {key} has no value: set {key} in the environment, or give {key}=VALUE"
                )
        found[key] = value
    return found


def _time_limit(text: str | None) -> str | None:
    from trainshed.cli.times import iso_duration

    try:
        return iso_duration(text) if text else None
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--time-limit") from None
