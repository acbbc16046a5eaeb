"""What a node can make containers with."""

from __future__ import annotations

import os
import shutil

from trainshed.runner.containers import cgroups
from trainshed.runner.containers.errors import ContainerError
from trainshed.runner.containers.settings import Runtime, choose_runtime

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
        raise ContainerError(
            "the node has no container runtime (podman)",
            "Install one: apt-get install podman runc; see `trainshed doctor`.",
        )
    if os.geteuid() != 0:
        raise ContainerError(
            "the service is not root, and podman needs it to share the node with the job",
            "Run trainshed serve as root.",
        )
    found = runtime()
    if found is None:
        raise ContainerError("podman has no OCI runtime here", "Install one: apt-get install runc.")
    return program, found
