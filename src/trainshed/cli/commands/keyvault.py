"""``trainshed keyvault``: secrets that jobs and clusters name by reference. Works on the service's home."""

from __future__ import annotations

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
    "set": ("keyvault", "set_", "Write a secret; its value comes from standard input or is asked for."),
    "list": ("keyvault", "list_", "List vaults, their secrets' names and who may use them."),
    "delete": ("keyvault", "delete", "Remove a secret."),
    "allow": ("keyvault", "allow", "Let workspaces use a vault, or no longer."),
}


@click.group(cls=LazyGroup, table=_COMMANDS)
def keyvault() -> None:
    """Secrets that jobs and clusters name by Key Vault references. Run these on the service's machine, as its user."""


def _version_option(function: F) -> F:
    return click.option("--secret-version", metavar="VERSION", help="This version of the secret.")(function)


@click.command("set")
@click.argument("vault")
@click.argument("name")
@_version_option
@options.home
def set_(vault: str, name: str, secret_version: str | None, home: Path | None) -> None:
    """Write a secret, in place of the one that is there. Its value never stands on the command line.

    \b
    trainshed keyvault set research db-password < password.txt
    """
    if sys.stdin.isatty():
        value = click.prompt(f"value of {name}", hide_input=True, confirmation_prompt=True, err=True)
    else:
        value = sys.stdin.read().removesuffix("\n")
    _call("set_secret", home, vault, name, secret_version, value)
    click.echo(f"https://{vault.lower()}.vault.azure.net/secrets/{name.lower()}" + _path(secret_version))


@click.command("list")
@options.home
def list_(home: Path | None) -> None:
    """List vaults, their secrets' names and who may use them."""
    for vault in _call("list_vaults", home):
        click.echo(f"{vault.name}: {', '.join(vault.workspaces) or 'nobody may use it'}")
        for name, version in vault.secrets:
            click.echo(f"  {name}{_path(version)}")


@click.command("delete")
@click.argument("vault")
@click.argument("name")
@_version_option
@options.home
def delete(vault: str, name: str, secret_version: str | None, home: Path | None) -> int:
    """Remove a secret, or one version of it. Jobs that name it fail when they start."""
    if _call("delete_secret", home, vault, name, secret_version):
        return 0
    click.echo(f"key vault {vault} has no secret {name}{_path(secret_version)}", err=True)
    return 3


@click.command("allow")
@click.argument("vault")
@click.argument("workspaces", nargs=-1, required=True, metavar="WORKSPACE...")
@click.option("--remove", is_flag=True, help="They may no longer use it.")
@options.home
def allow(vault: str, workspaces: tuple[str, ...], remove: bool, home: Path | None) -> None:
    """Let workspaces use a vault: whoever may submit jobs there can then read its secrets.

    WORKSPACE is a name, SUBSCRIPTION/GROUP/NAME, or '*' for all workspaces.
    """
    allowed = _call("allow", home, vault, [_in_full(workspace) for workspace in workspaces], remove=remove)
    click.echo(f"{vault.lower()}: {', '.join(allowed) or 'nobody may use it'}")


def _in_full(workspace: str) -> str:
    from trainshed.client.scope import Scope

    if "/" in workspace or workspace == "*":
        return workspace
    scope = Scope.from_environment()
    return f"{scope.subscription}/{scope.resource_group}/{workspace}"


def _path(version: str | None) -> str:
    return f"/{version.lower()}" if version else ""


def _call(name: str, home: Path | None, *arguments: Any, **more: Any) -> Any:
    """A function of ``trainshed.keyvaults``; a value that cannot be becomes a CommandError."""
    from trainshed.cli.errors import CommandError
    from trainshed.client.connection import home_directory

    where = (home or home_directory()).expanduser().absolute()
    try:
        return getattr(import_module("trainshed.keyvaults"), name)(where, *arguments, **more)
    except ValueError as error:
        raise CommandError("InvalidSecret", str(error)) from None
