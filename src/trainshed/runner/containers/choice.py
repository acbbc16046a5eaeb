"""Which of the container runtimes that a node has makes a job's container."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol

from trainshed.runner.containers import executor
from trainshed.runner.containers.apptainer import Apptainer
from trainshed.runner.containers.building import Ground
from trainshed.runner.containers.docker import Docker
from trainshed.runner.containers.errors import ContainerError
from trainshed.runner.containers.helper import Found
from trainshed.runner.containers.podman import Podman

#: Names one of them, for those who have several.
VARIABLE = "TRAINSHED_CONTAINER_RUNTIME"


class Builder(Protocol):
    """Makes one container, in a process that is for this alone."""

    def build(self) -> Found:
        """Fetch the image if need be, and build the container. Raises ContainerError, OSError."""
        ...

    def fetch(self) -> Found:
        """Only fetch the image. Raises ContainerError, OSError."""
        ...


#: In the order in which they are preferred: whether it can be used (else ContainerError), and how.
_ALL: dict[str, tuple[Callable[[], object], Callable[[Ground], Builder]]] = {
    "podman": (executor.podman, Podman),
    "docker": (executor.docker, lambda ground: Docker(executor.docker(), ground)),
    "apptainer": (executor.apptainer, lambda ground: Apptainer(executor.apptainer(), ground)),
}


def builder(ground: Ground) -> Builder:
    """The first that can be used here. Raises ContainerError that says what to install, OSError."""
    return _ALL[chosen()][1](ground)


def chosen() -> str:
    """Its name. Raises ContainerError."""
    asked = os.environ.get(VARIABLE, "")
    if asked and asked not in _ALL:
        raise ContainerError(f"{VARIABLE} is {asked!r}", f"Name one of {', '.join(_ALL)}, or unset it.")
    why_not = []
    for name in [asked] if asked else _ALL:
        try:
            _ALL[name][0]()
        except ContainerError as error:
            why_not.append(error)
        else:
            return name
    reasons = "; ".join(error.what for error in why_not)
    raise ContainerError(f"the node has no container runtime ({reasons})", why_not[0].way_out)


def others(name: str) -> dict[str, str]:
    """The other runtimes: what is wrong with each and what would mend it, or that it is not asked."""
    found = {}
    for other in _ALL.keys() - {name}:
        try:
            _ALL[other][0]()
            found[other] = f"there, and used with {VARIABLE}={other}"
        except ContainerError as error:
            found[other] = f"{error.what}"
    return dict(sorted(found.items()))
