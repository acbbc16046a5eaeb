"""The one line that says where a job stands: redrawn on a terminal, a line for each change elsewhere. On stderr."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.status import Status


class StatusLine:
    """Shows a text until the next; ``clear`` before anything else is printed."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._status: Status | None = None
        self._told: str | None = None

    def say(self, text: str) -> None:
        """Show the text, if it is another than before."""
        if text == self._told:
            return
        self._told = text
        if not self._live:
            click.echo(text, err=True)
        elif self._status is None:
            from rich.console import Console
            from rich.markup import escape

            self._status = Console(stderr=True).status(escape(text), spinner="dots")
            self._status.start()
        else:
            from rich.markup import escape

            self._status.update(escape(text))

    def clear(self) -> None:
        """Take the line away."""
        if self._status is not None:
            self._status.stop()
            self._status = None
        self._told = None
