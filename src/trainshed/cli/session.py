"""One call of a command: where it looks, how it prints, and the client, made when it is first asked for."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from trainshed.cli.output import Column, Format, structured, table

if TYPE_CHECKING:
    from trainshed.client.client import Client
    from trainshed.client.scope import Scope

T = TypeVar("T")


@dataclass
class Session:
    """What every command is given."""

    scope: Scope
    form: Format
    #: Parents that the user named; the others are defaults, which commands may create.
    named: frozenset[str] = frozenset()

    @cached_property
    def client(self) -> Client:
        """The client. Raises NoServiceError."""
        # httpx imports a command line of its own, with rich and pygments (60 ms), unless that part is not installed.
        sys.modules.setdefault("httpx._main", cast(ModuleType, None))
        from trainshed.client.client import Client

        client = Client(self.scope, on_warning=lambda text: self.note(f"warning: {text}"))
        click.get_current_context().call_on_close(client.close)
        return client

    @property
    def interactive(self) -> bool:
        """Whether a person can be asked."""
        return sys.stdin.isatty() and sys.stderr.isatty()

    def note(self, text: str) -> None:
        """Tell the person something that is not the command's output."""
        click.echo(text, err=True)

    def next_commands(self, *commands: tuple[str, str]) -> None:
        """After an action: what one may want to do now. Only on a terminal, and not when quiet."""
        if not sys.stderr.isatty() or self.form is not Format.TABLE:
            return
        width = max(len(command) for command, _ in commands)
        for command, why in commands:
            click.secho(f"  {command.ljust(width)}  {why}", err=True, dim=True)

    def confirm(self, question: str, *, yes: bool) -> None:
        """Ask before something is lost. Raises CommandError where nobody can be asked and ``-y`` was not given."""
        if yes:
            return
        if not self.interactive:
            from trainshed.cli.errors import CommandError

            raise CommandError(
                "ConfirmationRequired",
                f"{question} Nobody can be asked here, since this is not a terminal.",
                "the same command with -y",
            )
        if not click.confirm(question, err=True):
            raise click.Abort

    def show_list(
        self,
        items: Iterable[T],
        columns: Sequence[Column[T]],
        *,
        json: Callable[[T], Any] = lambda item: item.json,  # type: ignore[attr-defined]
        name: Callable[[T], object] = lambda item: item.name,  # type: ignore[attr-defined]
        empty: str = "",
    ) -> None:
        """Print a list. ``empty``: what to tell a person when there is nothing."""
        rows = list(items)
        if self.form is Format.QUIET:
            for row in rows:
                click.echo(name(row))
        elif self.form is not Format.TABLE:
            click.echo(structured([json(row) for row in rows], self.form))
        elif rows:
            click.echo(table(rows, columns))
        elif empty:
            self.note(empty)

    def show(self, item: T, columns: Sequence[Column[T]]) -> None:
        """Print one resource."""
        if self.form in (Format.JSON, Format.YAML):
            click.echo(structured(item.json, self.form))  # type: ignore[attr-defined]
        elif self.form is Format.QUIET:
            click.echo(item.name)  # type: ignore[attr-defined]
        else:
            click.echo(table([item], columns))

    def watch(self, draw: Callable[[], str], interval: float = 1.0) -> None:
        """Redraw until Ctrl-C."""
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        with Live(console=Console(), auto_refresh=False) as live:
            while True:
                live.update(Text.from_ansi(draw()), refresh=True)
                time.sleep(interval)

    def job_name(self, name: str) -> str:
        """The name itself, or for ``last`` that of the job submitted last. Raises CommandError when there is none."""
        if name != "last":
            return name
        from trainshed.client.errors import NotFoundError

        try:
            jobs = list(self.client.jobs.list())
        except NotFoundError:
            jobs = []
        if not jobs:
            from trainshed.cli.errors import CommandError

            raise CommandError("NoJobs", f"experiment {self.scope.experiment} has no jobs", "trainshed run -- COMMAND")
        return max(jobs, key=lambda job: str(job.properties.get("creationTime"))).name
