"""What is in the way of a Ray engine, and what mends it (``trainshed doctor``)."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainshed.engines.checks import Check
from trainshed.engines.ray.engine import bridge_environment
from trainshed.engines.ray.settings import RaySettings

#: Seconds for the head to accept a connection, and for all nodes to answer.
_REACH_SECONDS, _PROBE_SECONDS = 3.0, 90.0
_TOKEN = "~/.ray/auth_token"


def checks(name: str, settings: RaySettings) -> list[Check]:
    """Everything that can be looked at. Takes some seconds: Ray starts a task on each node."""
    return list(_checks(f"engine {name}", settings))


def _checks(name: str, settings: RaySettings) -> Iterator[Check]:
    directory = _directory(name, settings)
    yield directory
    yield _token(name, settings)
    host, _, port = settings.address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _REACH_SECONDS).close()
    except OSError as error:
        why = f"Ray's head at {settings.address} cannot be reached: {error.strerror or error}"
        start = f"ray start --head --node-ip-address={host} --port={port} --num-cpus=0, with RAY_AUTH_MODE=token"
        yield Check(name, False, why, start)
        return
    if directory.ok:
        yield from _nodes(name, settings)


def _directory(name: str, settings: RaySettings) -> Check:
    name = f"{name} directory"
    try:
        Path(settings.directory).mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=settings.directory):
            return Check(name, True, settings.directory)
    except OSError as error:
        mend = "mount it, or give it to the service's user"
        return Check(name, False, f"{settings.directory} cannot be used: {error.strerror}", mend)


def _token(name: str, settings: RaySettings) -> Check:
    name = f"{name} token"
    path = Path(settings.token_file or os.environ.get("RAY_AUTH_TOKEN_PATH", "") or _TOKEN).expanduser()
    if os.environ.get("RAY_AUTH_TOKEN") and not settings.token_file:
        return Check(name, True, "in RAY_AUTH_TOKEN")
    try:
        found = path.stat()
    except OSError as error:
        mend = f"ray get-auth-token --generate > {path}, and the same file on every machine of Ray"
        return Check(name, False, f"{path} cannot be read: {error.strerror}", mend)
    if stat.S_IMODE(found.st_mode) & 0o077:
        text = f"{path} is open to other users, who may run anything on all machines with it"
        return Check(name, False, text, f"chmod 600 {path}")
    return Check(name, True, str(path))


def _nodes(name: str, settings: RaySettings) -> Iterator[Check]:
    command = [sys.executable, "-m", "trainshed.engines.ray.probe", settings.address, settings.directory]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=bridge_environment(settings),
            timeout=_PROBE_SECONDS,
            check=False,
        )
        told: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    except subprocess.TimeoutExpired:
        told = {"away": f"it did not answer within {_PROBE_SECONDS:g} s"}
    except (ValueError, IndexError):
        told = {"away": done.stderr.strip()[-300:] or f"the look at it ended with {done.returncode}"}
    if "away" in told:
        mend = "see that this machine is part of Ray (ray start --num-cpus=0), with the same Ray, Python and token"
        yield Check(name, False, f"Ray's head at {settings.address} does not let us in: {told['away']}", mend)
        return
    nodes = told["nodes"]
    cpus, gpus = (sum(int(node["resources"].get(kind, 0)) for node in nodes) for kind in ("CPU", "GPU"))
    what = f"Ray {told['version']} at {settings.address}, {len(nodes)} nodes, {cpus} CPUs, {gpus} GPUs"
    if cpus or settings.autoscale:
        yield Check(name, True, what)
    else:
        yield Check(name, False, f"{what}: no job can run", "join machines with ray start, or set autoscale to yes")
    for node in nodes:
        if node["problem"]:
            text = f"Ray's node {node['address']} {node['problem']}"
            mend = f"mount {settings.directory} there, writable for Ray's user, at that path"
            # The head alone may go without, when it gives nothing to jobs.
            yield Check(name, False, text, mend, needed=bool(node["resources"].get("CPU", 0)))
