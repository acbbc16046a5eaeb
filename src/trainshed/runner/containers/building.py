"""What all builders of containers share: what a container is built for, and a look at its image."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainshed.runner.containers.errors import ContainerError
from trainshed.runner.containers.settings import NVIDIA_CONTROL, RENDER_NODES, ROCM_CONTROL, Bind
from trainshed.runner.containers.wanted import Wanted

_SHELLS = ("/bin/bash", "/usr/bin/bash", "/usr/local/bin/bash", "/bin/sh", "/usr/bin/sh")
#: Seconds in which a container that needs no network and no image is built.
BUILD_SECONDS = 60.0
#: Of the environment, what runtimes get: where programs and certificates are, and how the registry is reached.
_PASSED = ("PATH", "HOME", "LANG", "SSL_CERT_FILE", "SSL_CERT_DIR", "DOCKER_HOST", "TRAINSHED_NODE_MARK")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "all_proxy", "ALL_PROXY")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "i686": "386", "armv7l": "arm"}


@dataclass(frozen=True, slots=True)
class Ground:
    """What a container is built for."""

    wanted: Wanted
    #: Image stores; the first is the service's own.
    stores: tuple[str, ...]
    #: Empty directory of this container.
    work: str
    binds: tuple[Bind, ...]
    host_name: str
    gpus: tuple[str, ...]
    #: Ids of the container's root and of its other users on the machine; None: the machine's own.
    owner: int | None
    others: int
    #: Control group of the runtime's own processes, which are gone when the container stands.
    group: str
    #: Archive of the OCI layout in ``wanted.folder``, where the job's user made one; else empty.
    archive: str = ""


def passed_environment() -> dict[str, str]:
    """Variables for a runtime."""
    return {name: os.environ[name] for name in (*_PASSED, *_PROXIES) if name in os.environ}


def control_devices() -> list[str]:
    """Devices that GPUs are reached by, as far as the node has them."""
    return [path for path in (NVIDIA_CONTROL, ROCM_CONTROL, RENDER_NODES) if Path(path).exists()]


def check_platform(image: Mapping[str, Any]) -> None:
    machine = os.uname().machine
    ours, its = _ARCHITECTURES.get(machine, machine), str(image.get("Architecture") or "")
    if its and its != ours:
        raise ContainerError(
            f"the image is for {its} machines, and the node is {ours}",
            f"Build or name an image for linux/{ours}.",
        )


def find_shell(enter: Callable[[], None]) -> str:
    """bash, else sh, as the image has it; looked for in a child that enters the image first. Raises ContainerError."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            enter()
            found = next((path for path in _SHELLS if os.access(path, os.X_OK)), "")
            os.write(writing, found.encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as answer:
        shell = answer.read().decode()
    os.waitpid(pid, 0)
    if not shell:
        raise ContainerError(
            "the image has neither bash nor sh, and a job's commands are command lines of a shell",
            "Build the image on one that has a shell, such as debian:stable-slim.",
        )
    return shell
