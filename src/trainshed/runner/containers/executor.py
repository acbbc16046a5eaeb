"""What a node can make containers with."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from trainshed.runner.containers import cgroups
from trainshed.runner.containers.errors import ContainerError
from trainshed.runner.containers.settings import Runtime, choose_runtime

_INSTALL = "Install podman: apt-get install podman runc."
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def find(program: str) -> str | None:
    """Path of a program of the node; what the administrator's paths lack is looked for where root's programs are."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:{_PATH}")


def runtime() -> Runtime | None:
    """The OCI runtime that podman can use here."""
    installed = {name: path for name in ("crun", "runc") if (path := find(name))}
    return choose_runtime(installed, {version for _, version in cgroups.hierarchies()})


def podman() -> tuple[str, Runtime]:
    """podman and its runtime. Raises ContainerError that says what to install."""
    program = find("podman")
    if program is None:
        raise ContainerError("podman is not installed", "Install it: apt-get install podman runc.")
    if os.geteuid() != 0:
        raise ContainerError(
            "the service is not root, and podman needs it to share the node with the job",
            "Run trainshed serve as root, or install apptainer.",
        )
    found = runtime()
    if found is None:
        raise ContainerError("podman has no OCI runtime here", "Install one: apt-get install runc.")
    return program, found


def docker() -> str:
    """docker's command line, where there is an engine too. Raises ContainerError."""
    program = find("docker")
    if program is None:
        raise ContainerError("docker is not installed", _INSTALL)
    if os.geteuid() != 0:
        raise ContainerError("the service is not root, and entering docker's containers needs it", _INSTALL)
    host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if not host.startswith("unix://") or not Path(host.removeprefix("unix://")).is_socket():
        raise ContainerError(f"there is no docker engine on this machine at {host}", "Start it, or install podman.")
    return program


def apptainer() -> str:
    """apptainer, or what it was called before. Raises ContainerError."""
    program = find("apptainer") or find("singularity")
    if program is None:
        raise ContainerError("apptainer is not installed", _INSTALL)
    return program
