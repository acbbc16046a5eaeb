"""``trainshed job files`` (also ``job file``) and ``job node``."""

from __future__ import annotations

from pathlib import Path

import click

from trainshed.cli import options
from trainshed.cli.session import Session

_job_flags = ("-j", "--job", "-n", "--name")


@click.group()
def files() -> None:
    """A job's files: stdouterr, and its output directories by their ids."""


@files.command("list")
@options.name("job", flags=_job_flags)
@click.option("-d", "--output-directory-id", default="stdouterr", show_default=True, metavar="ID", help="Which output.")
@click.option("-p", "--path", default=".", show_default=True, help="Folder in it.")
@click.option("--expiry", type=click.IntRange(5, 600), default=60, show_default=True, help="Minutes that links live.")
@options.session(experiment=True)
def list_files(session: Session, name: str, output_directory_id: str, path: str, expiry: int) -> None:
    """List an output directory. `-o json` has the download links."""
    from trainshed.cli.tables import FILES

    found = session.client.jobs.output_files(
        session.job_name(name), output_directory_id, directory=path, link_minutes=expiry
    )
    session.show_list(found, FILES, empty="no files there yet")


@files.command("stream")
@options.name("job", flags=_job_flags)
@click.option("-f", "--file-name", default=None, metavar="FILE", help="Which file.  [default: the job's log]")
@options.session(experiment=True)
def stream(session: Session, name: str, file_name: str | None) -> None:
    """Follow a file of stdouterr until the job has ended."""
    from trainshed.cli.commands.job_logs import logs

    ctx = click.get_current_context()
    forwarded = {
        "name_argument": session.job_name(name),
        "name_option": None,
        "follow": True,
        "tail": None,
        "stderr": False,
        "file": file_name,
        "subscription": session.scope.subscription,
        "resource_group": session.scope.resource_group,
        "workspace": session.scope.workspace,
        "experiment": session.scope.experiment,
        "form": session.form.value,
    }
    ctx.invoke(logs, **forwarded)


@files.command("download")
@options.name("job", flags=_job_flags)
@click.option(
    "-d", "--output-directory-id", "outputs", multiple=True, metavar="ID", help="Which outputs.  [default: all]"
)
@click.option("-p", "--path", default=".", show_default=True, help="Folder in them.")
@click.option("-f", "--file-name", "only", multiple=True, metavar="FILE", help="Only these files.")
@click.option(
    "--to", type=click.Path(file_okay=False, path_type=Path), help="Folder to write to.  [default: the job's name]"
)
@options.session(experiment=True)
def download(
    session: Session, name: str, outputs: tuple[str, ...], path: str, only: tuple[str, ...], to: Path | None
) -> None:
    """Download outputs, with all folders below. What an earlier, broken download left is continued."""
    from trainshed.cli.downloads import download_outputs

    name = session.job_name(name)
    job = session.client.jobs.get(name)
    wanted = outputs or ("stdouterr", *job.output_ids)
    download_outputs(session, job, wanted, to or Path(name), directory=path, only=only or None)


@click.group()
def node() -> None:
    """The nodes that a job runs on."""


@node.command("list")
@options.name("job", flags=_job_flags)
@options.session(experiment=True)
def list_nodes(session: Session, name: str) -> None:
    """List the nodes that ran a job and still exist, and where one can log in."""
    from trainshed.cli.tables import LOGINS

    found = session.client.jobs.remote_logins(session.job_name(name))
    session.show_list(found, LOGINS, name=lambda login: login.node_id, empty="no nodes")
