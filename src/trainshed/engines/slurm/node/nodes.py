"""The nodes of a Slurm job: their names from the job's variables, and addresses at which the others reach them."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from typing import Any

from trainshed.runner.spec import HostSpec


def hosts(slurm: dict[str, str], order: dict[str, Any]) -> list[HostSpec]:
    """In Slurm's own order, which is that of the tasks. Raises OSError for a node that has no address."""
    if slurm.get("SLURM_JOB_NUM_NODES", "1") == "1":
        names = [slurm.get("SLURMD_NODENAME") or slurm["SLURM_JOB_NODELIST"]]
    else:
        names = _scontrol(slurm, "show", "hostnames", slurm["SLURM_JOB_NODELIST"]).split()
    cpus = per_node(slurm.get("SLURM_JOB_CPUS_PER_NODE") or "1", len(names))
    found = [_address(name, order["addresses"].get(name) or name, slurm) for name in names]
    if len(names) > 1 and _is_loopback(found[0]) and not all(map(_is_loopback, found)):
        # Debian's /etc/hosts gives the machine's own name a loopback address.
        found[0] = _own_address_towards(next(one for one in found if not _is_loopback(one)))
    return [
        HostSpec(f"{order['node_prefix']}{name}", name, at, count, order["gpus"])
        for name, at, count in zip(names, found, cpus, strict=True)
    ]


def per_node(text: str, count: int) -> list[int]:
    """``2(x3),4`` as one number a node, as Slurm writes SLURM_JOB_CPUS_PER_NODE."""
    numbers: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part.strip())
        if found:
            numbers += [int(found[1])] * int(found[2] or 1)
    return (numbers + [1] * count)[:count]


def _address(name: str, at: str, slurm: dict[str, str]) -> str:
    """The numerical address of a node. Raises OSError."""
    try:
        return _resolve(at)
    except OSError:
        # A node that was made for the occasion may be known to Slurm alone.
        known = re.search(r"\bNodeAddr=(\S+)", _scontrol(slurm, "-o", "show", "node", name))
        if known is None or known[1] == at:
            raise
        return _resolve(known[1])


def _scontrol(slurm: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(["scontrol", *arguments], capture_output=True, text=True, env={**os.environ, **slurm})
    if done.returncode != 0:
        raise OSError(done.returncode, f"scontrol {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def _resolve(name: str) -> str:
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    plain = [str(entry[4][0]) for entry in found]
    return next((one for one in plain if ":" not in one), plain[0])


def _is_loopback(at: str) -> bool:
    return at.startswith("127.") or at == "::1"


def _own_address_towards(other: str) -> str:
    """The address that this machine has in the network of another; nothing is sent."""
    with socket.socket(socket.AF_INET6 if ":" in other else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((other, 9))
        return str(probe.getsockname()[0])
