"""``trainshed storage upload``, ``files`` and ``download``: files of shares and containers, without a job."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from trainshed.cli import completing, options
from trainshed.cli.output import Format, structured
from trainshed.cli.session import Session

if TYPE_CHECKING:
    from trainshed.client.noun import Sync
    from trainshed.client.storage_files import Comparison, StorageFiles

F = TypeVar("F", bound=Callable[..., Any])

_UPLOAD_EXAMPLES = """\b
Examples:
  trainshed storage upload ./images mydata/training
  trainshed storage upload ./images mydata/training/images --dry-run
  trainshed storage upload weights.bin mydata/models --container
  trainshed storage upload ./images mydata/training --delete -y"""
_FILES_EXAMPLES = """\b
Examples:
  trainshed storage files mydata/training
  trainshed storage files mydata/training/images -o json"""
_DOWNLOAD_EXAMPLES = """\b
Examples:
  trainshed storage download mydata/training --to ./training
  trainshed storage download mydata/models/best/weights.bin --container"""


@dataclass(frozen=True, slots=True)
class Place:
    """``ACCOUNT/SHARE[/PATH]``."""

    account: str
    share: str
    path: str

    @property
    def name(self) -> str:
        """The last part."""
        return self.path.rpartition("/")[2] or self.share


def _place(_ctx: click.Context, _param: click.Parameter, text: str) -> Place:
    account, _, rest = text.partition("/")
    share, _, path = rest.partition("/")
    if not account or not share:
        raise click.BadParameter(f"{text!r} is not ACCOUNT/SHARE or ACCOUNT/SHARE/PATH")
    return Place(account.lower(), share, path.strip("/"))


def _at_place(function: F) -> F:
    """``ACCOUNT/SHARE[/PATH]`` and whether it is a container."""
    container = click.option("--container", is_flag=True, help="A blob container, not a file share.")
    argument = click.argument(
        "place", metavar="ACCOUNT/SHARE[/PATH]", callback=_place, shell_complete=completing.storage_accounts
    )
    return argument(container(function))


@click.command("upload", epilog=_UPLOAD_EXAMPLES)
@click.argument("source", metavar="FOLDER_OR_FILE", type=click.Path(exists=True, path_type=Path))
@_at_place
@click.option("--dry-run", is_flag=True, help="Only say what would be sent and removed.")
@click.option("--delete", is_flag=True, help="Remove files there that the folder does not have. Asks first.")
@options.yes
@options.session(workspace=False)
def upload(
    session: Session, source: Path, place: Place, container: bool, dry_run: bool, delete: bool, yes: bool
) -> None:
    """Send a folder's files, or one file, into a share or container. What is there already is not sent again.

    Files are compared by their content. The same command again goes on where it was interrupted. Left out is what
    .trainshedignore names. The share is made if it is missing; jobs that mount it see each file once it is whole.
    """
    from trainshed.cli.progressbar import ProgressBar

    if delete and source.is_file():
        raise click.UsageError("--delete goes with a folder, not with a file")
    files = _files(session, place)
    with ProgressBar() as bar:
        found = files.compare(
            source, place.account, place.share, path=place.path, container=container, extra=delete, progress=bar.show
        )
    if dry_run:
        _show_plan(session, found)
        return
    if found.extra:
        session.confirm(f"Remove {_removal(found)} from {place.account}/{place.share}?", yes=yes)
    with ProgressBar() as bar:
        files.send(found, progress=bar.show)
    _show_result(session, found)


@click.command("files", epilog=_FILES_EXAMPLES)
@_at_place
@options.session(workspace=False)
def files(session: Session, place: Place, container: bool) -> None:
    """List a folder of a share or container. `-o json` has the download links."""
    from trainshed.cli.tables import FILES

    found = _files(session, place).list(place.account, place.share, path=place.path, container=container)
    session.show_list(found, FILES, empty="no files there")


@click.command("download", epilog=_DOWNLOAD_EXAMPLES)
@_at_place
@click.option(
    "--to",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to write to.  [default: the folder's name, or here for a file]",
)
@options.session(workspace=False)
def download(session: Session, place: Place, container: bool, to: Path | None) -> None:
    """Fetch a folder of a share or container with all below it, or one file. A broken download is continued."""
    from trainshed.cli.downloads import show_downloads

    files = _files(session, place)
    if to is None:
        to = Path(place.name) if _is_folder(files, place, container) else Path()

    def fetch(progress: Callable[[Path, int, int], None]) -> Any:
        return files.download(place.account, place.share, to, path=place.path, container=container, progress=progress)

    show_downloads(session, fetch, to)


def _is_folder(files: StorageFiles[Sync], place: Place, container: bool) -> bool:
    if not place.path:
        return True
    folder, _, name = place.path.rpartition("/")
    level = files.list(place.account, place.share, path=folder, container=container)
    return any(file.name == name and file.is_directory for file in level)


def _files(session: Session, place: Place) -> StorageFiles[Sync]:
    """In the account's resource group, unless -g names one: an account's name is unique in the whole service."""
    if "resource_group" not in session.named:
        for account in session.client.storage_accounts.list(everywhere=True):
            if account.name == place.account:
                return session.client.at(resource_group=account.resource_group).storage_files
    return session.client.storage_files


def _removal(found: Comparison) -> str:
    shown = ", ".join(found.extra[:3]) + (", ..." if len(found.extra) > 3 else "")
    return f"{len(found.extra)} file{'' if len(found.extra) == 1 else 's'} ({shown})"


def _show_plan(session: Session, found: Comparison) -> None:
    from trainshed.cli.tables import PLANNED_FILES

    planned: list[tuple[str, str, int | None]] = [("send", file.name, file.size) for file in found.missing]
    planned += [("remove", path, None) for path in found.extra]
    if session.form in (Format.JSON, Format.YAML):
        click.echo(structured({"dryRun": True, **found.json}, session.form))
        return
    session.show_list(planned, PLANNED_FILES, name=lambda row: row[1], empty="nothing to send: all is there")


def _show_result(session: Session, found: Comparison) -> None:
    from trainshed.cli.tables import SENT

    if session.form is Format.QUIET:
        for file in found.missing:
            click.echo(file.name)
        return
    session.show(found, SENT)
