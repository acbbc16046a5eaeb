"""Sending a folder's code before a job is submitted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trainshed.cli.progressbar import ProgressBar
from trainshed.cli.times import size

if TYPE_CHECKING:
    from trainshed.cli.session import Session


def send_code(session: Session, folder: Path) -> str:
    """Send the folder, honouring its ``.trainshedignore`` or ``.gitignore``; the id for a job's ``codeSnapshot``.

    Raises CodeFolderError for what cannot be sent.
    """
    with ProgressBar(in_bytes=False) as bar:
        sent = session.client.code.upload(folder, progress=lambda done, whole: bar.show("sending code", done, whole))
    if sent.sent:
        session.note(f"sent {sent.sent} of {sent.files} files ({size(sent.sent_size)})")
    return sent.id
