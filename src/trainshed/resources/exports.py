"""How a file server's data is reached: ``mountSettings`` of the contract, and the ports that it has no place for.

Kept apart from the models, so that what runs on a node can use it without pydantic.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Any

#: Where a file server exports its data (the specification's example; recorded servers said /data).
MOUNT_POINT = "/mnt/data"

#: Members of the contract; the others are the service's own.
_OF_THE_CONTRACT = ("mountPoint", "fileServerPublicIP", "fileServerInternalIP")


def mount_settings(
    address: str, *, nfs_port: int | None = None, mount_port: int | None = None, ssh_port: int | None = None
) -> dict[str, Any]:
    """What is recorded of a server that is reached at this address, from inside and outside alike.

    Without an NFS port nothing serves its data: nodes see the directory of its disks itself.
    """
    settings = {"mountPoint": MOUNT_POINT, "fileServerPublicIP": address, "fileServerInternalIP": address}
    ports = {"nfsPort": nfs_port, "mountPort": mount_port, "sshPort": ssh_port}
    return {**settings, **{name: port for name, port in ports.items() if port is not None}}


def of_the_contract(settings: Mapping[str, Any]) -> dict[str, Any]:
    """``mountSettings`` as the contract has them."""
    return {name: settings[name] for name in _OF_THE_CONTRACT if name in settings}


def source_directory(given: str | None) -> str:
    """The directory of the data that ``sourceDirectory`` names, relative to all of it; empty for all of it.

    ``/data1``, ``data1`` and ``/mnt/data/data1`` are one. Raises ValueError for one that leads out of the data.
    """
    path = posixpath.normpath(given or "/")
    if path == MOUNT_POINT or path.startswith(f"{MOUNT_POINT}/"):
        path = path[len(MOUNT_POINT) :]
    path = path.strip("/")
    if path == ".." or path.startswith("../"):
        raise ValueError(f"sourceDirectory '{given}' leads out of the file server's data; leave '..' out of it")
    return "" if path == "." else path
