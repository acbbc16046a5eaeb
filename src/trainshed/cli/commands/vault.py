"""``trainshed vault``: the key that seals stored secrets. Works on the service's machine, on its home."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import click

from trainshed.cli import options
from trainshed.cli.lazy import LazyGroup

F = TypeVar("F", bound=Callable[..., Any])

_COMMANDS = {
    "status": ("vault", "status", "Say which key seals the stored secrets, and whether all of them open."),
    "rotate": ("vault", "rotate", "Seal all stored secrets with a new key."),
}


@click.group(cls=LazyGroup, table=_COMMANDS)
def vault() -> None:
    """The key that seals the secrets of jobs and clusters. Run these on the service's machine, as its user."""


def _home_options(function: F) -> F:
    url = click.option(
        "--database-url", envvar="TRAINSHED_DATABASE_URL", metavar="URL", help="As for `trainshed serve`."
    )
    return options.home(url(function))


@click.command("status")
@_home_options
def status(home: Path | None, database_url: str | None) -> int:
    """Say which key seals the stored secrets, and whether all of them open. Exits 1 when something needs mending."""
    found = _call("vault_status", _home(home), database_url)
    click.echo(f"key      {found.key_ids[0]} from {found.source}")
    click.echo(f"secrets  {found.sealed.get(found.key_ids[0], 0)} sealed with it")
    for old in found.key_ids[1:]:
        click.echo(f"old key  {old}: {found.sealed.get(old, 0)} sealed with it")
    if found.unfinished:
        click.echo("a rotation was not finished; everything opens. Finish it: trainshed vault rotate", err=True)
    for owner, path in found.unreadable:
        click.echo(f"the secret {path} of the resource with uid {owner} does not open", err=True)
    return 1 if found.unfinished or found.unreadable else 0


@click.command("rotate")
@click.option("--new-key-env", metavar="NAME", help="Environment variable that holds the new key.")
@click.option("--new-key-stdin", is_flag=True, help="Read the new key from standard input.")
@click.option("--online", is_flag=True, help="Have the running service do it, as its administrator.")
@_home_options
def rotate(
    home: Path | None, database_url: str | None, new_key_env: str | None, new_key_stdin: bool, online: bool
) -> int:
    """Seal all stored secrets with a new key, in one transaction, and forget the old one.

    The service must be stopped, but for --online. It may be cut at any instant: everything still opens, and the next
    call finishes it. Without an option the new key is made here and kept in vault.key.
    """
    if online:
        if new_key_env or new_key_stdin:
            raise click.UsageError("with --online the service makes the new key itself")
        return _rotate_online()
    found = _call("rotate_vault", _home(home), database_url, _new_key(new_key_env, new_key_stdin))
    click.echo(f"{found.sealed[found.key_ids[0]]} secrets are sealed with key {found.key_ids[0]} now")
    if found.source == "TRAINSHED_VAULT_KEY":
        click.echo("start the service with the new key in TRAINSHED_VAULT_KEY; the old one opens nothing", err=True)
    return 0


def _rotate_online() -> int:
    from trainshed.cli.options import make_session

    key, count = make_session(None, None, None, None).client.vault.rotate()
    click.echo(f"{count} secrets are sealed with key {key} now")
    return 0


def _new_key(variable: str | None, from_stdin: bool) -> str | None:
    if variable and from_stdin:
        raise click.UsageError("give the new key by --new-key-env or by --new-key-stdin, not by both")
    if variable:
        if variable not in os.environ:
            raise click.UsageError(f"--new-key-env {variable}: the variable is not set")
        return os.environ[variable]
    return sys.stdin.read() if from_stdin else None


def _home(given: Path | None) -> Path:
    from trainshed.client.connection import home_directory

    return (given or home_directory()).expanduser().absolute()


def _call(name: str, *arguments: Any) -> Any:
    """A function of ``trainshed.upkeep``; what it raises for a person becomes a CommandError."""
    from trainshed.cli.errors import CommandError

    upkeep = import_module("trainshed.upkeep")
    try:
        return getattr(upkeep, name)(*arguments)
    except upkeep.ERRORS as error:
        raise CommandError("VaultError", str(error)) from error
