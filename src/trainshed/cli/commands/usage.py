"""``trainshed usage``."""

from __future__ import annotations

import click

from trainshed.cli import options
from trainshed.cli.session import Session

_EXAMPLES = """\b
Examples:
  trainshed usage list
  trainshed usage list -l northeurope -o json"""


@click.group(epilog=_EXAMPLES)
def usage() -> None:
    """How many clusters and cores are in use, and how many may be."""


@usage.command("list")
@click.option("-l", "--location", default="local", show_default=True, metavar="NAME", help="Region.")
@click.option("--all", "everything", is_flag=True, help="Also families of which nothing is in use.")
@options.session(group=False, workspace=False)
def list_(session: Session, location: str, everything: bool) -> None:
    """List usages and limits of the subscription in a region."""
    from trainshed.cli.output import Format
    from trainshed.cli.tables import USAGES

    rows = list(session.client.clusters.usages(location))
    if session.form is Format.TABLE and not everything:
        rows = [row for row in rows if row.json["currentValue"] or not row.json["name"]["value"].startswith("Standard")]
    session.show_list(rows, USAGES, name=lambda row: row.json["name"]["value"])
