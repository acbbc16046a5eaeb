"""Downloading a job's outputs, a folder for each, with a line for each file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trainshed.cli.progressbar import ProgressBar
from trainshed.cli.times import size

if TYPE_CHECKING:
    from trainshed.cli.session import Session
    from trainshed.client.files import Downloaded
    from trainshed.client.models import Job


def download_outputs(
    session: Session,
    job: Job,
    outputs: Sequence[str],
    to: Path,
    *,
    directory: str = ".",
    only: Sequence[str] | None = None,
) -> None:
    """Each output goes to ``{to}/{id}``; a single one to ``to`` itself. Paths go to stdout, the sum to stderr."""

    def fetch(progress: Callable[[Path, int, int], None]) -> Iterator[Downloaded]:
        for output in outputs:
            folder = to if len(outputs) == 1 else to / output
            yield from session.client.files.download(
                job.name, output, folder, directory=directory, only=only, progress=progress
            )

    show_downloads(session, fetch, to)


def show_downloads(
    session: Session, fetch: Callable[[Callable[[Path, int, int], None]], Iterator[Downloaded]], to: Path
) -> None:
    """Paths as they come to stdout, the sum to stderr. ``fetch`` is given what to tell its progress."""
    count = total = 0
    with ProgressBar() as bar:
        for done in fetch(lambda path, had, whole: bar.show(path.name, had, whole)):
            bar.clear()
            click.echo(str(done.path))
            count += 1
            total += done.size
    session.note(f"{count} file{'' if count == 1 else 's'}, {size(total)}, in {to}")
