"""``trainshed group``."""

from __future__ import annotations

import click

from trainshed.cli import options
from trainshed.cli.session import Session

_EXAMPLES = """\b
Examples:
  trainshed group create team-a -l local
  trainshed workspace create -g team-a -n vision
  trainshed group delete team-a"""


@click.group(epilog=_EXAMPLES)
def group() -> None:
    """A resource group holds workspaces and storage accounts; the first workspace in one makes it."""


@group.command("create")
@options.name("resource group")
@click.option("-l", "--location", default="local", show_default=True, metavar="NAME", help="Where it is.")
@options.session(group=False, workspace=False)
def create(session: Session, name: str, location: str) -> None:
    """Create a resource group."""
    from trainshed.cli.tables import GROUPS

    session.show(session.client.groups.create(name, location=location), GROUPS)
    session.next_commands((f"trainshed workspace create -g {name} -n NAME", "make a workspace in it"))


@group.command("show")
@options.name("resource group")
@options.session(group=False, workspace=False)
def show(session: Session, name: str) -> None:
    """Show a resource group."""
    from trainshed.cli.tables import GROUPS

    session.show(session.client.groups.get(name), GROUPS)


@group.command("list")
@options.session(group=False, workspace=False)
def list_(session: Session) -> None:
    """List the subscription's resource groups."""
    from trainshed.cli.tables import GROUPS

    session.show_list(
        session.client.groups.list(), GROUPS, empty="no resource groups yet: trainshed group create -n NAME"
    )


@group.command("delete")
@options.name("resource group")
@options.yes
@options.no_wait
@options.session(group=False, workspace=False)
def delete(session: Session, name: str, yes: bool, no_wait: bool) -> None:
    """Delete a resource group with its workspaces, and its storage accounts with all files in them."""
    from trainshed.client.errors import NotFoundError

    session.confirm(f"Delete resource group {name}, everything in it and the files of its storage accounts?", yes=yes)
    try:
        session.client.groups.delete(name, wait=not no_wait)
    except NotFoundError:
        session.note(f"there is no resource group {name}")
    else:
        session.note(f"deleted resource group {name}")
