"""``trainshed role``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from trainshed.cli import options
from trainshed.cli.session import Session

F = TypeVar("F", bound=Callable[..., Any])


@click.group()
def role() -> None:
    """Who may do what, where: roles at the service, a subscription, a resource group or a workspace, and below.

    \b
    trainshed role list
    trainshed role assign alice "Job Submitter" -w vision
    trainshed role assign bob Contributor -g research
    trainshed role assignments --user alice
    trainshed role remove alice "Job Submitter" -w vision
    """


def _places(function: F) -> F:
    """Where: one scope, or names that make one."""
    function = click.option("--everywhere", is_flag=True, help="The whole service.")(function)
    return click.option("--scope", metavar="PATH", help="Scope as a path, instead of names.")(function)


@role.command("list")
@options.session(workspace=False)
def list_(session: Session) -> None:
    """List the roles and what they are for."""
    from trainshed.cli.tables_access import ROLES

    session.show_list(session.client.roles.definitions(_narrowest(session)), ROLES, name=lambda entry: entry.role)


@role.command("assign")
@click.argument("principal", metavar="USER")
@click.argument("name", metavar="ROLE")
@_places
@options.session()
def assign(session: Session, principal: str, name: str, scope: str | None, everywhere: bool) -> None:
    """Give a user a role: name the workspace (-w), the resource group (-g), or --everywhere."""
    from trainshed.cli.tables_access import ASSIGNMENTS

    place = _scope(session, scope, everywhere)
    session.show(session.client.roles.assign(principal, name, place), ASSIGNMENTS)


@role.command("remove")
@click.argument("principal", metavar="USER")
@click.argument("name", metavar="ROLE")
@_places
@options.session()
def remove(session: Session, principal: str, name: str, scope: str | None, everywhere: bool) -> None:
    """Take a role away from a user, at the place at which it was given."""
    place = _scope(session, scope, everywhere)
    there = session.client.roles.remove(principal, name, place)
    session.note(f"{principal} is no longer {name} of {place}" if there else f"{principal} is not {name} of {place}")


@role.command("assignments")
@click.option("--user", metavar="NAME", help="Of this user only.")
@_places
@options.session()
def assignments(session: Session, user: str | None, scope: str | None, everywhere: bool) -> None:
    """List who holds which role; everywhere, or at and below the place that is named."""
    from trainshed.cli.tables_access import ASSIGNMENTS

    place = _scope(session, scope, everywhere or not session.named)
    session.show_list(session.client.roles.list(place, principal=user), ASSIGNMENTS, empty="no roles were given")


def _scope(session: Session, scope: str | None, everywhere: bool) -> str:
    """The place that the options name. Raises UsageError when they name none or several."""
    named = session.named
    if sum((scope is not None, everywhere and not named, bool(named))) != 1:
        raise click.UsageError(
            "say where: -w WORKSPACE, -g RESOURCE_GROUP, --subscription ID, --scope PATH, or --everywhere"
        )
    if scope is not None:
        return scope
    if everywhere:
        return "/"
    return _narrowest(session)


def _narrowest(session: Session) -> str:
    place = session.scope
    if "workspace" in session.named:
        return place.workspace_path()
    if "resource_group" in session.named:
        return place.group_path
    return place.subscription_path if "subscription" in session.named else "/"
