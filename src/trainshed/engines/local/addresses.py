"""Addresses and names of nodes on this machine.

Each cluster has a /24 of its own in 127.0.0.0/8 and its first node gets .4, as the original's first usable address was
10.0.0.4: ports of different nodes never collide. Several services may run on one machine, so a subnet is claimed by a
listening socket on its .1 that is held as long as the daemon lives.
"""

from __future__ import annotations

import hashlib
import random
import re
import socket
from collections.abc import Collection

#: Second and third byte of subnets are drawn from here; low numbers are often used by hand.
_SECOND = range(32, 224)
_THIRD = range(256)
#: Below the range from which the kernel draws ports for those who ask for any: a job that listens on every address
#: would take it away from all nodes.
_CLAIM_PORT = 31018
#: Port on which the runners of a gang listen, each at its own node's address.
RUNNER_PORT = 31019
FIRST_HOST = 4
#: Nodes that one subnet holds; addresses of nodes that are gone are used again.
_HOSTS = 250


#: 127.224.0.0/12, beyond the subnets of clusters, for file servers.
_FILE_SERVERS = 127 << 24 | 224 << 16
_FILE_SERVERS_SIZE = 1 << 20


class Subnets:
    """The subnets that this daemon holds."""

    def __init__(self) -> None:
        self._claims: dict[str, socket.socket] = {}

    def claim(self, preferred: str | None = None) -> str:
        """A subnet such as ``127.57.3``: the preferred one if it is free, else another. Raises OSError when none is."""
        candidates = [f"127.{random.choice(_SECOND)}.{random.choice(_THIRD)}" for _ in range(64)]
        for subnet in ([preferred] if preferred else []) + candidates:
            if subnet in self._claims:
                continue
            listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            try:
                # Connections of somebody's port scan may linger; two listeners stay impossible all the same.
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((f"{subnet}.1", _CLAIM_PORT))
                listener.listen(1)
            except OSError:
                listener.close()
                continue
            self._claims[subnet] = listener
            return subnet
        raise OSError("no free subnet was found in 127.0.0.0/8")

    def release(self, subnet: str) -> None:
        """Let others have it."""
        claim = self._claims.pop(subnet, None)
        if claim is not None:
            claim.close()


def free_addresses(subnet: str, count: int, used: set[str]) -> list[str]:
    """The lowest addresses of the subnet that no node has. Raises OSError when there are not so many."""
    all_of_it = (f"{subnet}.{host}" for host in range(FIRST_HOST, FIRST_HOST + _HOSTS))
    free = [address for address in all_of_it if address not in used]
    if len(free) < count:
        raise OSError(f"a cluster has {_HOSTS} addresses on one machine, and {len(free)} of {subnet}.0/24 are free")
    return free[:count]


def file_server_address(uid: str, used: Collection[str]) -> str:
    """A loopback address for the file server with this uid, outside of the clusters' subnets and not among ``used``.

    The same for the same uid as long as no other has it. Raises OSError when there is none left.
    """
    hosts = _FILE_SERVERS_SIZE - 2
    start = int.from_bytes(hashlib.sha256(uid.encode()).digest()[:4]) % hosts
    for step in range(min(hosts, len(used) + 1)):
        number = _FILE_SERVERS + 1 + (start + step) % hosts
        address = ".".join(str(byte) for byte in number.to_bytes(4))
        if address not in used:
            return address
    raise OSError("no address is left for file servers in 127.224.0.0/12")


def host_name(cluster: str, ordinal: int) -> str:
    """A valid host label: the cluster's name as far as it may be one, and the node's number from 1."""
    label = re.sub(r"[^a-z0-9-]+", "-", cluster.lower()).strip("-")[:50] or "node"
    return f"{label}-{ordinal + 1}"
