"""``trainshed user`` and ``trainshed whoami``."""

from __future__ import annotations

import click

from trainshed.cli import options
from trainshed.cli.session import Session

_NAME = click.argument("name", metavar="NAME")


@click.command()
@options.session(workspace=False)
def whoami(session: Session) -> None:
    """Who you are to the service, and your roles."""
    from trainshed.cli.output import Format

    me = session.client.principals.me()
    if session.form is not Format.TABLE:
        session.show(me, [])
        return
    click.echo(f"{me.name} ({me.properties['kind']}, {me.properties['principalId']})")
    for entry in me.properties["roles"]:
        click.echo(f"  {entry['role']} of {entry['scope']}")
    if not me.properties["roles"]:
        session.note("no roles yet: an Owner gives them with trainshed role assign")
    limit = me.properties.get("tokenAllows")
    if limit:
        click.echo(f"  this token allows at most: {limit['role']} of {limit['scope']}")


@click.group()
def user() -> None:
    """People and programs that may call the service.

    \b
    trainshed user create alice
    trainshed role assign alice "Job Submitter" -w vision
    trainshed token create --user alice --name laptop
    """


@user.command("create")
@_NAME
@click.option("--service-principal", is_flag=True, help="A program, not a person.")
@click.option("--display-name", metavar="TEXT", help="As people call them.")
@options.session(workspace=False)
def create(session: Session, name: str, service_principal: bool, display_name: str | None) -> None:
    """Make a user. It has no rights until it is given a role."""
    from trainshed.cli.tables_access import PRINCIPALS

    kind = "ServicePrincipal" if service_principal else None
    session.show(session.client.principals.create(name, kind=kind, display_name=display_name), PRINCIPALS)
    session.next_commands(
        (f"trainshed role assign {name} 'Job Submitter' -w WORKSPACE", "let it submit jobs"),
        (f"trainshed token create --user {name} --name laptop", "make a token for it"),
    )


@user.command("list")
@options.session(workspace=False)
def list_(session: Session) -> None:
    """List users."""
    from trainshed.cli.tables_access import PRINCIPALS

    session.show_list(
        session.client.principals.list(), PRINCIPALS, empty="only the administrator: trainshed user create NAME"
    )


@user.command("show")
@_NAME
@options.session(workspace=False)
def show(session: Session, name: str) -> None:
    """Show a user, by name or object id."""
    from trainshed.cli.tables_access import PRINCIPALS

    session.show(session.client.principals.get(name), PRINCIPALS)


@user.command("lock")
@_NAME
@options.session(workspace=False)
def lock(session: Session, name: str) -> None:
    """Refuse all tokens of a user, from now on. Running jobs go on."""
    session.client.principals.get(name)
    session.client.principals.create(name, disabled=True)
    session.note(f"locked out {name}; trainshed user unlock {name} lets it in again")


@user.command("unlock")
@_NAME
@options.session(workspace=False)
def unlock(session: Session, name: str) -> None:
    """Let a user in again."""
    session.client.principals.get(name)
    session.client.principals.create(name, disabled=False)
    session.note(f"{name} may call again")


@user.command("delete")
@_NAME
@options.yes
@options.session(workspace=False)
def delete(session: Session, name: str, yes: bool) -> None:
    """Delete a user with its tokens and roles. Its jobs stay."""
    session.confirm(f"Delete user {name} with all tokens and roles?", yes=yes)
    there = session.client.principals.delete(name)
    session.note(f"deleted user {name}" if there else f"there is no user {name}")
