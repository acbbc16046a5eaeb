"""``trainshed storage``: embedded storage accounts."""

from __future__ import annotations

import click

from trainshed.cli import options
from trainshed.cli.commands.storage_files import download, files, upload
from trainshed.cli.session import Session

_EXAMPLES = """\b
Examples:
  trainshed storage create mydata
  trainshed storage upload ./images mydata/data
  trainshed cluster create pair -t 2 --storage-account-name mydata --afs-name data
  trainshed storage keys mydata -o json"""


@click.group(epilog=_EXAMPLES)
def storage() -> None:
    """A storage account is a directory of the service, under the name that job files use."""


@storage.command("create")
@options.name("storage account")
@click.option("-l", "--location", default="local", show_default=True, metavar="NAME", help="Where it is.")
@options.session(workspace=False)
def create(session: Session, name: str, location: str) -> None:
    """Create a storage account; the default resource group is made if it is missing."""
    from trainshed.cli.tables import STORAGE_ACCOUNTS
    from trainshed.client.errors import NotFoundError

    try:
        account = session.client.storage_accounts.create(name, location=location)
    except NotFoundError:
        # One that the user named may be a slip of the pen.
        if "resource_group" in session.named:
            raise
        made = session.client.groups.create(location=location)
        session.note(f"made the resource group {made.name}")
        account = session.client.storage_accounts.create(name, location=location)
    session.show(account, STORAGE_ACCOUNTS)


@storage.command("show")
@options.name("storage account")
@options.session(workspace=False)
def show(session: Session, name: str) -> None:
    """Show a storage account."""
    from trainshed.cli.tables import STORAGE_ACCOUNTS

    session.show(session.client.storage_accounts.get(name), STORAGE_ACCOUNTS)


@storage.command("list")
@options.session(workspace=False)
def list_(session: Session) -> None:
    """List storage accounts: of all resource groups, or of the one that -g names."""
    from trainshed.cli.tables import STORAGE_ACCOUNTS

    session.show_list(
        session.client.storage_accounts.list(everywhere="resource_group" not in session.named),
        STORAGE_ACCOUNTS,
        empty="no storage accounts yet: trainshed storage create -n NAME",
    )


@storage.command("keys")
@options.name("storage account")
@click.option("--renew", type=click.Choice(["key1", "key2"]), help="Replace this key first.")
@options.session(workspace=False)
def keys(session: Session, name: str, renew: str | None) -> None:
    """Print a storage account's keys. Whoever has one can read and change what is stored there."""
    from trainshed.cli.tables import STORAGE_KEYS

    accounts = session.client.storage_accounts
    found = accounts.regenerate_key(name, renew) if renew else accounts.keys(name)
    session.show_list(found, STORAGE_KEYS, name=lambda key: key.get("value"))


@storage.command("delete")
@options.name("storage account")
@options.yes
@options.session(workspace=False)
def delete(session: Session, name: str, yes: bool) -> None:
    """Delete a storage account with all files in it."""
    session.confirm(f"Delete storage account {name} and every file in it?", yes=yes)
    there = session.client.storage_accounts.delete(name)
    session.note(f"deleted storage account {name}" if there else f"there is no storage account {name}")


for _command in (upload, files, download):
    storage.add_command(_command)
