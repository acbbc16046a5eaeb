"""Addresses and names of nodes on this machine.

Each cluster has a /24 of its own in 127.0.0.0/8 and its first node gets .4, as the original's first usable address was
10.0.0.4: ports of different nodes never collide. Several services may run on one machine, so a subnet is claimed by a
listening socket on its .1 that is held as long as the daemon lives.
"""

from __future__ import annotations

import random
import re
import socket

#: Second and third byte of subnets are drawn from here; low numbers are often used by hand.
_SECOND = range(32, 224)
_THIRD = range(256)
_CLAIM_PORT = 52018
#: Port on which the runners of a gang listen, each at its own node's address.
RUNNER_PORT = 52019
FIRST_HOST = 4
#: Nodes that one subnet holds, ordinals counted without end: addresses of nodes that are gone are used again.
_HOSTS = 250


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


def free_address(subnet: str, used: set[str]) -> str:
    """The lowest address of the subnet that no node has. Raises OSError when all are taken."""
    for host in range(FIRST_HOST, FIRST_HOST + _HOSTS):
        address = f"{subnet}.{host}"
        if address not in used:
            return address
    raise OSError(f"all addresses of {subnet}.0/24 are taken")


def host_name(cluster: str, ordinal: int) -> str:
    """A valid host label: the cluster's name as far as it may be one, and the node's number from 1."""
    label = re.sub(r"[^a-z0-9-]+", "-", cluster.lower()).strip("-")[:50] or "node"
    return f"{label}-{ordinal + 1}"
