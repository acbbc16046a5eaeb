"""The variables that today's scripts expect of whoever starts them: torch's ``env://`` names, which others read too.

Every toolkit with several processes gives them; under MPI the rank wrapper does, from what MPI says (``rank.sh``).
"""

from __future__ import annotations

from zlib import crc32

from trainshed.toolkits.launch import Gang
from trainshed.toolkits.placing import Place

# Below the range that systems hand out for outgoing connections, above the services'.
_FIRST_PORT, _PORTS = 20_000, 12_000


def rendezvous_port(attempt_id: str) -> int:
    """A port of the master for this attempt: the same on all nodes, most likely another for each attempt."""
    return _FIRST_PORT + crc32(attempt_id.encode()) % _PORTS


def gang_variables(gang: Gang, world_size: int | None = None) -> dict[str, str]:
    """What is the same for all processes of the gang."""
    found = {"MASTER_ADDR": gang.hosts[0].address, "MASTER_PORT": str(rendezvous_port(gang.attempt_id))}
    if world_size is not None:
        found["WORLD_SIZE"] = str(world_size)
    if gang.interface:
        found |= {"GLOO_SOCKET_IFNAME": gang.interface, "NCCL_SOCKET_IFNAME": gang.interface}
    return found


def process_variables(place: Place) -> dict[str, str]:
    """What each process has of its own."""
    return {
        "RANK": str(place.rank),
        "LOCAL_RANK": str(place.local_rank),
        "LOCAL_WORLD_SIZE": str(place.local_size),
        "NODE_RANK": str(place.host),
    }
