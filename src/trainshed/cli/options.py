"""Options that many commands share, under the names that ``az batchai`` gave them (behaviour section 12)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from trainshed.cli import completing
from trainshed.cli.output import Format
from trainshed.cli.session import Session

F = TypeVar("F", bound=Callable[..., Any])


def session(
    *, group: bool = True, workspace: bool = True, experiment: bool = False, long_output: bool = True
) -> Callable[[F], F]:
    """Give a command its Session as first argument, and the options that make it."""

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def call(
            *args: Any,
            subscription: str | None,
            form: str,
            resource_group: str | None = None,
            workspace: str | None = None,
            experiment: str | None = None,
            **kwargs: Any,
        ) -> Any:
            made = make_session(subscription, resource_group, workspace, experiment, form)
            return function(made, *args, **kwargs)

        output = ["-o", "--output"] if long_output else ["-o"]
        wrapped: Any = click.option(
            *output,
            "form",
            type=click.Choice([form.value for form in Format]),
            default=Format.TABLE.value,
            envvar="TRAINSHED_OUTPUT",
            help="How to print.  [default: table]",
        )(call)
        wrapped = click.option("--subscription", metavar="ID", help="Subscription; only where there are several.")(
            wrapped
        )
        if group:
            wrapped = click.option(
                "-g",
                "--resource-group",
                metavar="NAME",
                help="Resource group.  [default: trainshed]",
                shell_complete=completing.resource_groups,
            )(wrapped)
        if experiment:
            wrapped = click.option(
                "-e",
                "--experiment",
                metavar="NAME",
                help="Experiment.  [default: default]",
                shell_complete=completing.experiments,
            )(wrapped)
        if workspace:
            wrapped = click.option(
                "-w",
                "--workspace",
                metavar="NAME",
                help="Workspace.  [default: default]",
                shell_complete=completing.workspaces,
            )(wrapped)
        return wrapped  # type: ignore[no-any-return]

    return decorate


def make_session(
    subscription: str | None,
    resource_group: str | None,
    workspace: str | None,
    experiment: str | None,
    form: str = Format.TABLE.value,
) -> Session:
    """A session: what is given wins over the environment, that over the defaults."""
    from dataclasses import replace

    from trainshed.client.scope import Scope

    given = {
        name: value
        for name, value in {
            "subscription": subscription,
            "resource_group": resource_group,
            "workspace": workspace,
            "experiment": experiment,
        }.items()
        if value
    }
    return Session(replace(Scope.from_environment(), **given), Format(form), frozenset(given))


def name(kind: str, *, optional: bool = False, flags: tuple[str, ...] = ("-n", "--name")) -> Callable[[F], F]:
    """The resource's name, as an argument or as an option; exactly one of them."""
    complete = getattr(completing, f"{kind.replace(' ', '_')}s")

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def call(*args: Any, name_argument: str | None, name_option: str | None, **kwargs: Any) -> Any:
            if name_argument and name_option and name_argument != name_option:
                raise click.UsageError(f"two names for one {kind}: {name_argument!r} and {name_option!r}")
            found = name_argument or name_option
            if not found and not optional:
                raise click.UsageError(f"the {kind}'s name is missing: give it as argument or with {flags[-1]}")
            return function(*args, name=found, **kwargs)

        argument = click.argument("name_argument", metavar="[NAME]", required=False, shell_complete=complete)
        text = f"The {kind}'s name, instead of the argument."
        option = click.option(*flags, "name_option", metavar="NAME", help=text, shell_complete=complete)
        return argument(option(call))  # type: ignore[return-value]

    return decorate


def dependencies(function: F) -> F:
    """``--after``, ``--after-ok``, ``--after-any``: wait for other jobs (``cli.dependencies``)."""
    for flag, text in (
        ("--after-any", "Start it once job NAME has ended, however; may be repeated."),
        ("--after-ok", "Start it once job NAME has succeeded; may be repeated."),
        ("--after", "Start it once job NAME has started; may be repeated."),
    ):
        function = click.option(flag, multiple=True, metavar="NAME", help=text, shell_complete=completing.jobs)(
            function
        )
    return function


def home(function: F) -> F:
    """``--home``: for what works on the service's machine."""
    return click.option(
        "--home",
        type=click.Path(file_okay=False, path_type=Path),
        envvar="TRAINSHED_HOME",
        help="The service's home.  [default: ~/.trainshed]",
    )(function)


def yes(function: F) -> F:
    """``-y``: don't ask."""
    return click.option("-y", "--yes", is_flag=True, help="Don't ask.")(function)


def no_wait(function: F) -> F:
    """``--no-wait``: return as soon as the service has accepted."""
    return click.option("--no-wait", is_flag=True, help="Return as soon as the service has accepted it.")(function)
