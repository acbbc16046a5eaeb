"""``trainshed cluster create``, with the arguments of ``az batchai cluster create`` (behaviour section 12)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from trainshed.cli import options
from trainshed.cli.session import Session
from trainshed.cli.storage import Storage, storage_options


@click.command("create")
@options.name("cluster")
@click.option("-f", "--config-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Cluster file.")
@click.option("-s", "--vm-size", metavar="SIZE", help="Size of its nodes.  [default: one that fits this machine]")
@click.option("--vm-priority", type=click.Choice(["dedicated", "lowpriority"]), help="[default: dedicated]")
@click.option("-i", "--image", metavar="IMAGE", help="UbuntuLTS, UbuntuDSVM or publisher:offer:sku:version.")
@click.option("--custom-image", metavar="ID", help="ARM id of an image.")
@click.option("-t", "--target", type=click.IntRange(0, 100), help="Number of nodes.")
@click.option("--min", "minimum", type=click.IntRange(0, 100), help="Smallest number of nodes, when it scales itself.")
@click.option("--max", "maximum", type=click.IntRange(0, 100), help="Largest number of nodes, when it scales itself.")
@click.option("--engine", metavar="NAME", help="Where its nodes are; see trainshed engine list.  [default: local]")
@click.option(
    "--engine-option",
    "engine_options",
    multiple=True,
    metavar="NAME=VALUE",
    help="The engine's own setting of this cluster, such as partition=gpu; see trainshed engine show. Repeatable.",
)
@click.option(
    "--node-limit",
    type=click.Choice(["job", "cluster"]),
    help="What the scale settings limit on an engine that queues: each job, or all together.  [default: job]",
)
@click.option("--idle-time", metavar="TIME", help="How long an unused node stays: 0, 90s, 10m.  [default: 5m]")
@click.option(
    "--use-auto-storage",
    "auto_storage",
    is_flag=True,
    help="Mount a share at autoafs and a container at autobfs, in an account that the service keeps for you.",
)
@click.option("--setup-task", metavar="COMMAND", help="Runs on each node before it takes jobs.")
@click.option("--setup-task-output", metavar="PATH", help="Where the setup task's output goes.")
@click.option("--subnet", metavar="ID", help="ARM id of a subnet.")
@click.option("-u", "--user-name", metavar="NAME", help="User on the nodes.  [default: your name]")
@click.option("-k", "--ssh-key", metavar="KEY", help="Public key, as text or path.  [default: yours in ~/.ssh]")
@click.option("-p", "--password", metavar="PASSWORD", help="Password of that user.")
@click.option("--generate-ssh-keys", is_flag=True, help="Make a key pair in ~/.ssh if there is none.")
@storage_options
@options.no_wait
@options.session()
def create(
    session: Session, name: str, config_file: Path | None, no_wait: bool, storage: Storage, **given: Any
) -> None:
    """Create a cluster. Arguments win over the cluster file."""
    from trainshed.cli.definitions import read_cluster
    from trainshed.cli.parents import with_parents
    from trainshed.cli.tables import CLUSTERS
    from trainshed.client.errors import NotFoundError
    from trainshed.client.transport import API_VERSION

    try:
        session.client.clusters.get(name)
    except NotFoundError:
        pass
    else:
        from trainshed.cli.errors import CommandError

        raise CommandError(
            "ClusterExists", f"there is a cluster {name} already", f"trainshed cluster resize {name} -t NODES"
        )
    properties, version = read_cluster(config_file, storage) if config_file else ({}, API_VERSION)
    _add_arguments(session, properties, storage, given)
    if given["idle_time"] is not None or "engine" in properties:
        # Only the newer version has the member.
        version = API_VERSION
    cluster = with_parents(
        session,
        lambda: session.client.clusters.create(name, properties, wait=not no_wait, version=version),
    )
    session.show(cluster, CLUSTERS)
    session.next_commands(
        (f"trainshed cluster node list {name}", "see its nodes"),
        (f"trainshed run -c {name} -- COMMAND", "run a command on it"),
    )


def _add_arguments(session: Session, properties: dict[str, Any], storage: Storage, given: dict[str, Any]) -> None:
    from trainshed.cli.accounts import account_settings
    from trainshed.cli.sizes import default_size

    scale = scale_settings(given["target"], given["minimum"], given["maximum"])
    if scale or "scaleSettings" not in properties:
        if not scale and given["target"] is None:
            raise click.UsageError("how many nodes? give -t, or --min and --max, or a file with scaleSettings")
        properties["scaleSettings"] = scale or {"manual": {"targetNodeCount": 0}}
    add_idle_time(properties["scaleSettings"], given["idle_time"])
    if given["vm_size"] or "vmSize" not in properties:
        nodes = given["target"] or given["maximum"] or 1
        properties["vmSize"] = given["vm_size"] or default_size(session.client, nodes)
    if given["vm_priority"]:
        properties["vmPriority"] = given["vm_priority"]
    if given["image"] or given["custom_image"]:
        properties["virtualMachineConfiguration"] = {
            "imageReference": image_reference(given["image"], given["custom_image"])
        }
    if given["engine"] or given["engine_options"] or given["node_limit"]:
        properties["engine"] = _engine(
            properties.get("engine") or {}, given["engine"], given["engine_options"], given["node_limit"]
        )
    if given["subnet"]:
        properties["subnet"] = {"id": given["subnet"]}
    wanted = (given["user_name"], given["ssh_key"], given["password"])
    if any(wanted) or "userAccountSettings" not in properties:
        properties["userAccountSettings"] = account_settings(session, *wanted, generate=given["generate_ssh_keys"])
    _add_setup(session, properties, storage, given["setup_task"], given["setup_task_output"])
    if given["auto_storage"]:
        _add_auto_storage(session, properties)


def _engine(written: dict[str, Any], name: str | None, options: tuple[str, ...], limit: str | None) -> dict[str, Any]:
    """``--engine``, ``--engine-option`` and ``--node-limit`` over what the file says."""
    name = name or written.get("name")
    if name is None:
        raise click.UsageError("--engine-option and --node-limit are for an engine: say which with --engine")
    if name != written.get("name"):
        written = {}
    limit = limit or written.get("nodeLimit")
    return {
        "name": name,
        "options": {**(written.get("options") or {}), **dict(map(name_and_value, options))},
        **({"nodeLimit": limit} if limit else {}),
    }


def name_and_value(text: str) -> tuple[str, str]:
    """``NAME=VALUE``."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise click.UsageError(f"{text!r} is not NAME=VALUE, for example partition=gpu")
    return name, value


def _add_setup(
    session: Session, properties: dict[str, Any], storage: Storage, task: str | None, output: str | None
) -> None:
    setup: dict[str, Any] = properties.get("nodeSetup") or {}
    if task:
        if not output:
            raise click.UsageError(
                "where does the setup task's output go? give --setup-task-output, "
                "for example '$AZ_BATCHAI_MOUNT_ROOT/setup'"
            )
        setup["setupTask"] = {"commandLine": task, "stdOutErrPathPrefix": output}
    volumes = storage.add_to(setup.get("mountVolumes") or {}, session)
    if volumes:
        setup["mountVolumes"] = volumes
    if setup:
        properties["nodeSetup"] = setup


def _add_auto_storage(session: Session, properties: dict[str, Any]) -> None:
    from trainshed.cli.auto_storage import auto_volumes

    volumes = properties.setdefault("nodeSetup", {}).setdefault("mountVolumes", {})
    for kind, entries in auto_volumes(session).items():
        volumes[kind] = [*(volumes.get(kind) or ()), *entries]


def scale_settings(target: int | None, minimum: int | None, maximum: int | None) -> dict[str, Any] | None:
    """``-t``, ``--min`` and ``--max`` as scaleSettings; None when none was given (behaviour section 12)."""
    if minimum is None and maximum is None:
        return None if target is None else {"manual": {"targetNodeCount": target}}
    if maximum is None:
        raise click.UsageError("--min needs --max")
    minimum = minimum or 0
    if minimum > maximum:
        raise click.UsageError(f"--min {minimum} is more than --max {maximum}")
    if minimum == maximum and target in (None, maximum):
        return {"manual": {"targetNodeCount": maximum}}
    scale: dict[str, Any] = {"minimumNodeCount": minimum, "maximumNodeCount": maximum}
    if target is not None:
        scale["initialNodeCount"] = target
    return {"autoScale": scale}


def add_idle_time(scale: dict[str, Any], text: str | None) -> None:
    """``--idle-time`` into the scaleSettings of a cluster that scales itself."""
    from trainshed.cli.times import iso_duration

    if text is None:
        return
    if "autoScale" not in scale:
        raise click.UsageError("--idle-time is for clusters that scale themselves: give --min and --max")
    try:
        scale["autoScale"]["idleTimeBeforeScaleDown"] = iso_duration(text, zero=True)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--idle-time") from None


_IMAGES = {
    "ubuntults": ("Canonical", "UbuntuServer", "16.04-LTS", "latest"),
    "ubuntudsvm": ("microsoft-ads", "linux-data-science-vm-ubuntu", "linuxdsvmubuntu", "latest"),
}


def image_reference(image: str | None, custom: str | None) -> dict[str, str]:
    """An image by alias or by ``publisher:offer:sku:version``."""
    parts = _IMAGES.get((image or "UbuntuLTS").lower()) or tuple((image or "").split(":"))
    if len(parts) != 4 or not all(parts):
        raise click.UsageError(f"the image {image!r} is neither UbuntuLTS, UbuntuDSVM nor publisher:offer:sku:version")
    publisher, offer, sku, version = parts
    reference = {"publisher": publisher, "offer": offer, "sku": sku, "version": version}
    return {**reference, "virtualMachineImageId": custom} if custom else reference
