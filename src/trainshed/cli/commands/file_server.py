"""``trainshed file-server``, with the arguments of ``az batchai file-server`` (behaviour section 12)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from trainshed.cli import options
from trainshed.cli.session import Session

_EXAMPLES = """\b
Examples:
  trainshed file-server create nfs -s STANDARD_D2 --disk-count 2 --disk-size 100
  trainshed file-server create nfs -f server.json
  trainshed cluster create pair -t 2 --nfs nfs"""


@click.group("file-server", epilog=_EXAMPLES)
def file_server() -> None:
    """A file server holds data that clusters and jobs mount; `sftp` and `scp` load it."""


@file_server.command("create")
@options.name("file server")
@click.option("-f", "--config-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Server file.")
@click.option("-s", "--vm-size", metavar="SIZE", help="Size of the server.  [default: one that fits this machine]")
@click.option("--disk-count", type=click.IntRange(1, 64), help="Number of disks.")
@click.option("--disk-size", type=click.IntRange(1, 32_767), metavar="GB", help="Size of each disk in GB.")
@click.option("--caching-type", type=click.Choice(["none", "readonly", "readwrite"]), help="[default: none]")
@click.option("--storage-sku", type=click.Choice(["Standard_LRS", "Premium_LRS"]), help="[default: Premium_LRS]")
@click.option("--subnet", metavar="ID", help="ARM id of a subnet.")
@click.option("-u", "--user-name", metavar="NAME", help="User on the server.  [default: your name]")
@click.option("-k", "--ssh-key", metavar="KEY", help="Public key, as text or path.  [default: yours in ~/.ssh]")
@click.option("-p", "--password", metavar="PASSWORD", help="Password of that user.")
@click.option("--generate-ssh-keys", is_flag=True, help="Make a key pair in ~/.ssh if there is none.")
@options.no_wait
@options.session()
def create(session: Session, name: str, config_file: Path | None, no_wait: bool, **given: Any) -> None:
    """Create a file server. Arguments win over the file."""
    from trainshed.cli.definitions import read_file_server
    from trainshed.cli.parents import with_parents
    from trainshed.cli.tables import FILE_SERVERS
    from trainshed.client.transport import API_VERSION

    properties, version = read_file_server(config_file) if config_file else ({}, API_VERSION)
    _add_arguments(session, properties, given)
    server = with_parents(
        session, lambda: session.client.file_servers.create(name, properties, wait=not no_wait, version=version)
    )
    session.show(server, FILE_SERVERS)
    session.next_commands((f"trainshed cluster create -n NAME -t 2 --nfs {name}", "make a cluster that mounts it"))


@file_server.command("show")
@options.name("file server")
@options.session()
def show(session: Session, name: str) -> None:
    """Show a file server."""
    from trainshed.cli.tables import FILE_SERVERS

    session.show(session.client.file_servers.get(name), FILE_SERVERS)


@file_server.command("list")
@options.session()
def list_(session: Session) -> None:
    """List the workspace's file servers."""
    from trainshed.cli.tables import FILE_SERVERS

    session.show_list(
        session.client.file_servers.list(),
        FILE_SERVERS,
        empty="no file servers yet: trainshed file-server create -n NAME --disk-count 1 --disk-size 10",
    )


@file_server.command("delete")
@options.name("file server")
@options.yes
@options.no_wait
@options.session()
def delete(session: Session, name: str, yes: bool, no_wait: bool) -> None:
    """Delete a file server with its data; refused while a cluster or an unfinished job mounts it."""
    session.confirm(f"Delete file server {name} and its data?", yes=yes)
    there = session.client.file_servers.delete(name, wait=not no_wait)
    session.note(f"deleted file server {name}" if there else f"there is no file server {name}")


def _add_arguments(session: Session, properties: dict[str, Any], given: dict[str, Any]) -> None:
    from trainshed.cli.accounts import account_settings
    from trainshed.cli.sizes import default_size

    disks: dict[str, Any] = dict(properties.get("dataDisks") or {})
    for member, option in (
        ("diskCount", "disk_count"),
        ("diskSizeInGB", "disk_size"),
        ("cachingType", "caching_type"),
        ("storageAccountType", "storage_sku"),
    ):
        if given[option] is not None:
            disks[member] = given[option]
    if "diskCount" not in disks or "diskSizeInGB" not in disks:
        raise click.UsageError("which disks? give --disk-count and --disk-size, or a file with dataDisks")
    disks.setdefault("storageAccountType", "Premium_LRS")
    properties["dataDisks"] = disks
    if given["vm_size"] or "vmSize" not in properties:
        properties["vmSize"] = given["vm_size"] or default_size(session.client, 1)
    if given["subnet"]:
        properties["subnet"] = {"id": given["subnet"]}
    ssh: dict[str, Any] = dict(properties.get("sshConfiguration") or {})
    wanted = (given["user_name"], given["ssh_key"], given["password"])
    if any(wanted) or "userAccountSettings" not in ssh:
        ssh["userAccountSettings"] = account_settings(session, *wanted, generate=given["generate_ssh_keys"])
    properties["sshConfiguration"] = ssh
