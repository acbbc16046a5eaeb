"""``trainshed engine``: engines beside the service's own machine. Works on the service's machine, on its home."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from trainshed.cli import options
from trainshed.cli.lazy import LazyGroup

if TYPE_CHECKING:
    from types import ModuleType

F = TypeVar("F", bound=Callable[..., Any])

_COMMANDS = {
    "add": ("engine", "add", "Add an engine, or give it other settings."),
    "bootstrap": ("engine_bootstrap", "bootstrap", "Set an engine up on hosts that are reached by SSH, and add it."),
    "list": ("engine", "list_", "List the engines of a home."),
    "show": ("engine", "show", "Show an engine, and what a cluster on it may ask for."),
    "kinds": ("engine", "kinds", "List the kinds of engines, with their settings."),
    "remove": ("engine", "remove", "Forget an engine that no cluster uses."),
}
_RESTART = "It is used when the service is started again."


@click.group(cls=LazyGroup, table=_COMMANDS)
def engine() -> None:
    """Where nodes come from, beside this machine. Run these on the service's machine, as its user."""


@click.command("add", context_settings={"ignore_unknown_options": True})
@click.argument("kind")
@click.argument("name")
@click.argument("settings", nargs=-1, type=click.UNPROCESSED, metavar="[--SETTING VALUE]...")
@options.home
def add(kind: str, name: str, settings: tuple[str, ...], home: Path | None) -> None:
    """Add an engine, or give it other settings: what is not named is then as by default.

    \b
    trainshed engine kinds                     what there is, and the settings
    trainshed engine add slurm hpc --directory /shared/trainshed
    """
    _call("add_engine", _home(home), kind, name, _settings(settings))
    click.echo(f"engine {name} of kind {kind} is added. {_RESTART}", err=True)


@click.command("list")
@options.home
def list_(home: Path | None) -> None:
    """List the engines of a home."""
    for found in _call("list_engines", _home(home)):
        click.echo(found.name if found.kind == found.name else f"{found.name}  {found.kind}")


@click.command("show")
@click.argument("name")
@options.home
def show(name: str, home: Path | None) -> int:
    """Show an engine, and what a cluster on it may ask for (trainshed cluster create --engine-option)."""
    described = {found.name: found for found in _call("list_engines", _home(home))}
    if name not in described:
        click.echo(f"error: there is no engine {name!r}; there are: {', '.join(described)}", err=True)
        return 3
    found = described[name]
    click.echo(f"{found.name}: kind {found.kind}")
    for setting, value in found.settings.items():
        click.echo(f"  {setting} = {value}")
    if found.kind != "local":
        _show_options("of a cluster", _call("engine_kind", found.kind).cluster_options)
    return 0


@click.command("kinds")
def kinds() -> None:
    """List the kinds of engines that can be added, with their settings."""
    for name in _call("engine_kinds"):
        kind = _call("engine_kind", name)
        click.echo(f"{kind.name}: {kind.summary}")
        _show_options("settings", kind.settings)
        _show_options("of a cluster", kind.cluster_options)


@click.command("remove")
@click.argument("name")
@click.option("--database-url", envvar="TRAINSHED_DATABASE_URL", metavar="URL", help="As for `trainshed serve`.")
@options.home
def remove(name: str, database_url: str | None, home: Path | None) -> None:
    """Forget an engine. Refused while clusters use it."""
    _call("remove_engine", _home(home), name, database_url)
    click.echo(f"engine {name} is removed; a service that runs has it until it is started again.", err=True)


def _show_options(heading: str, options: tuple[Any, ...]) -> None:
    if options:
        click.echo(f"  {heading}:")
    width = max((len(option.name) for option in options), default=0)
    for option in options:
        must = "  [required]" if option.required else ""
        click.echo(f"    {option.name.ljust(width)}  {option.help}{must}")


def _settings(given: tuple[str, ...]) -> dict[str, str]:
    """``--name value`` and ``--name=value``."""
    found: dict[str, str] = {}
    rest = iter(given)
    for word in rest:
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not name:
            raise click.UsageError(f"{word!r} is no setting: settings are written --name value")
        following = value if equals else next(rest, None)
        if following is None:
            raise click.UsageError(f"the setting {word} has no value")
        found[name.replace("-", "_")] = following
    return found


def _home(home: Path | None) -> Path:
    from trainshed.client.connection import home_directory

    return (home or home_directory()).expanduser()


def _call(function: str, *arguments: Any) -> Any:
    setup: ModuleType = import_module("trainshed.engine_setup")
    try:
        return getattr(setup, function)(*arguments)
    except (setup.InvalidEngines, setup.StoreError) as error:
        raise click.ClickException(str(error)) from None
