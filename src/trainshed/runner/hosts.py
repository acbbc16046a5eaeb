"""The attempt's own /etc/hosts: every node of the gang by name, then the machine's lines.

gloo, JAX and c10d connect to whatever a node's host name resolves to (frameworks.md headline), so the gang's lines
come first: the first match wins (hosts(5)).
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from functools import cache

from trainshed.runner import linux
from trainshed.runner.spec import HostSpec

HOSTS_FILE = "/etc/hosts"


def hosts_text(hosts: Iterable[HostSpec], machine_lines: str) -> str:
    """Contents of the attempt's hosts file."""
    gang = "".join(f"{host.address}\t{host.name}\n" for host in hosts)
    return f"{gang}{machine_lines}"


@cache
def _machine_lines() -> str:
    """Read once a process: the machine's file changes rarely, and a serving runner is replaced now and then."""
    with suppress(OSError), open(HOSTS_FILE) as file:
        return file.read()
    return ""


def write(hosts: Iterable[HostSpec], state: str) -> str:
    """Write the attempt's hosts file; its path. Raises OSError."""
    path = f"{state}/hosts"
    with open(path, "w") as file:
        file.write(hosts_text(hosts, _machine_lines()))
    return path


def install(hosts: Iterable[HostSpec], state: str) -> None:
    """Put the attempt's hosts file over the machine's, in the caller's own mount namespace. Raises OSError."""
    linux.mount(write(hosts, state), HOSTS_FILE, None, linux.MS_BIND)
