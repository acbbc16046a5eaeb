"""``trainshed token``."""

from __future__ import annotations

import click

from trainshed.cli import options
from trainshed.cli.session import Session

_USER = click.option("--user", metavar="NAME", help="Whose; your own without it.")


@click.group()
def token() -> None:
    """Personal access tokens: what a program or a laptop shows to the service.

    \b
    trainshed token create --name laptop
    trainshed token create --name ci --role "Job Submitter" --scope /subscriptions/S/resourceGroups/G --expires 90
    trainshed token revoke ID
    """


@token.command("create")
@click.option("-n", "--name", required=True, metavar="TEXT", help="What it is for.")
@click.option("--expires", "days", type=click.IntRange(1, 366), default=30, show_default=True, metavar="DAYS",
              help="Days until it expires.")  # fmt: skip
@click.option("--role", metavar="ROLE", help="It allows no more than this role.")
@click.option("--scope", metavar="PATH", help="It counts at this scope and below.")
@_USER
@options.session(workspace=False)
def create(
    session: Session, name: str, days: int, role: str | None, scope: str | None, user: str | None
) -> None:  # fmt: skip
    """Make a token. It is printed once, alone on stdout, and can't be shown again."""
    from trainshed.cli.output import Format

    made = session.client.tokens.create(name, days=days, user=user, role=role, scope=scope)
    if session.form in (Format.JSON, Format.YAML):
        session.show(made, [])
        return
    click.echo(made.text)
    session.note(
        f"token {made.name} expires {made.expires:%Y-%m-%d}; keep it in TRAINSHED_TOKEN, it is not shown again"
    )


@token.command("list")
@_USER
@options.session(workspace=False)
def list_(session: Session, user: str | None) -> None:
    """List tokens, those that are over too."""
    from trainshed.cli.tables_access import TOKENS

    session.show_list(
        session.client.tokens.list(user=user), TOKENS, empty="no tokens: trainshed token create --name TEXT"
    )


@token.command("revoke")
@click.argument("id", metavar="ID")
@_USER
@options.session(workspace=False)
def revoke(session: Session, id: str, user: str | None) -> None:
    """End a token at once."""
    there = session.client.tokens.revoke(id, user=user)
    session.note(f"revoked token {id}" if there else f"there is no token {id}")
