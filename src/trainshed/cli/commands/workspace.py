"""``trainshed workspace``."""

from __future__ import annotations

import click

from trainshed.cli import options
from trainshed.cli.commands.workspace_rules import rules
from trainshed.cli.session import Session


@click.group()
def workspace() -> None:
    """A workspace holds clusters and experiments."""


workspace.add_command(rules)


@workspace.command("create")
@options.name("workspace")
@click.option("-l", "--location", default="local", show_default=True, metavar="NAME", help="Where it is.")
@options.session(workspace=False)
def create(session: Session, name: str, location: str) -> None:
    """Create a workspace."""
    from trainshed.cli.tables import WORKSPACES

    session.show(session.client.workspaces.create(name, location=location), WORKSPACES)
    session.next_commands((f"trainshed cluster create -w {name} -n NAME -t 2", "make a cluster in it"))


@workspace.command("show")
@options.name("workspace", optional=True)
@options.session(workspace=False)
def show(session: Session, name: str | None) -> None:
    """Show a workspace; the default one without a name."""
    from trainshed.cli.tables import WORKSPACES

    session.show(session.client.workspaces.get(name), WORKSPACES)


@workspace.command("list")
@options.session(workspace=False)
def list_(session: Session) -> None:
    """List workspaces: of all resource groups, or of the one that -g names."""
    from trainshed.cli.tables import WORKSPACES

    everywhere = "resource_group" not in session.named
    session.show_list(
        session.client.workspaces.list(everywhere=everywhere),
        WORKSPACES,
        empty="no workspaces yet: trainshed workspace create -n NAME",
    )


@workspace.command("delete")
@options.name("workspace")
@options.yes
@options.no_wait
@options.session(workspace=False)
def delete(session: Session, name: str, yes: bool, no_wait: bool) -> None:
    """Delete a workspace with its clusters, experiments and jobs. Files in storage stay."""
    session.confirm(f"Delete workspace {name} and everything in it?", yes=yes)
    there = session.client.workspaces.delete(name, wait=not no_wait)
    session.note(f"deleted workspace {name}" if there else f"there is no workspace {name}")
