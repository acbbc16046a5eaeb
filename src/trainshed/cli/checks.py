"""What ``doctor`` looks at. The service adds its own checks (``trainshed.server.doctor``)."""

from __future__ import annotations

import os
import platform
import shutil
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from trainshed.client.connection import Connection, find_service, home_directory
from trainshed.client.errors import ClientError, NoServiceError

if TYPE_CHECKING:
    from trainshed.cli.session import Session

_OLDEST_PYTHON = (3, 11)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. ``needed`` False: something works less well without it."""

    name: str
    ok: bool
    detail: str
    #: The command that mends it.
    mend: str = ""
    needed: bool = True


def run_checks(session: Session) -> list[Check]:
    """Every check, the basic ones first."""
    checks = [_python(), _home()]
    try:
        connection = find_service()
    except NoServiceError as error:
        checks.append(Check("service", False, str(error), error.way_out))
    else:
        checks.extend(_service(session, connection))
    checks.extend([_mpi(), _tool("ssh", "openssh-client"), _tool("git", "git")])
    checks.extend(_server_checks())
    return checks


def _python() -> Check:
    version = platform.python_version()
    if sys.version_info >= _OLDEST_PYTHON:
        return Check("python", True, f"{version} at {sys.executable}")
    return Check("python", False, f"{version} is too old", "install Python 3.11 or later")


def _home() -> Check:
    home = home_directory()
    if not home.exists():
        return Check("home", True, f"{home} will be made by trainshed serve")
    found = home.stat()
    if found.st_uid != os.geteuid():
        return Check("home", False, f"{home} belongs to another user", "export TRAINSHED_HOME=~/.trainshed")
    if stat.S_IMODE(found.st_mode) & 0o077:
        return Check("home", False, f"{home} is open to other users", f"chmod 700 {home}")
    free = shutil.disk_usage(home).free
    if free < 1 << 30:
        return Check("home", False, f"{home} has {free >> 20} MiB left", "free disk space, or move TRAINSHED_HOME")
    return Check("home", True, f"{home}, {free >> 30} GiB free")


def _service(session: Session, connection: Connection) -> Iterator[Check]:
    ready, said = session.client.probes.ready()
    if not ready:
        yield Check("service", False, f"{connection.url} is not ready: {said}", "trainshed serve")
        return
    process = f", pid {connection.pid}" if connection.pid else ""
    yield Check("service", True, f"{connection.url} is ready{process}")
    try:
        count = sum(1 for _ in session.client.workspaces.list(everywhere=True))
    except ClientError as error:
        mend = f"export TRAINSHED_TOKEN=$(cat {home_directory() / 'admin.token'})"
        yield Check("token", False, f"{error.code}: {error}", mend)
        return
    yield Check("token", True, f"accepted; {count} workspace{'' if count == 1 else 's'}")
    yield from _clusters(session)


def _clusters(session: Session) -> Iterator[Check]:
    unusable = problems = 0
    for workspace in session.client.workspaces.list(everywhere=True):
        there = session.client.at(resource_group=workspace.resource_group, workspace=workspace.name)
        for cluster in there.clusters.list():
            unusable += cluster.nodes_in("unusable")
            problems += len(cluster.errors)
    if unusable or problems:
        yield Check("clusters", False, f"{unusable} unusable nodes, {problems} problems", "trainshed cluster show NAME")
    else:
        yield Check("clusters", True, "no unusable nodes")


def _mpi() -> Check:
    beside_python = Path(sys.executable).parent
    for program in ("mpirun", "mpiexec"):
        found = shutil.which(program) or shutil.which(program, path=str(beside_python))
        if found:
            return Check("mpi", True, found)
    return Check(
        "mpi", False, "no mpirun or mpiexec: jobs of kind custom MPI cannot run", "pip install mpich", needed=False
    )


def _tool(program: str, package: str) -> Check:
    found = shutil.which(program)
    if found:
        return Check(program, True, found)
    return Check(program, False, "not installed", f"apt-get install {package}", needed=False)


def _server_checks() -> Iterator[Check]:
    """Checks that only the service's own code can make: what its engine can isolate and limit here."""
    try:
        looked_at = import_module("trainshed.server").doctor(home_directory())
    except (ImportError, AttributeError):
        return
    for found in looked_at:
        yield Check(found.name, found.ok, found.detail, found.mend, found.needed)
