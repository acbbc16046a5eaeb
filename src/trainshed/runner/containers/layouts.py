"""Images in directories (OCI image layout): read with the rights of the job, never with more."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from trainshed.runner.containers.errors import ContainerError, tidy
from trainshed.runner.containers.wanted import Wanted
from trainshed.runner.node import Node

_INDEX = "index.json"


def take(node: Node, asked: Wanted, work: str) -> str:
    """An archive of the layout, made by the job's own user; empty where that is the service's. Raises ContainerError.

    Root must not follow paths that a job controls: it gets the bytes, and podman reads them as it reads a registry's.
    """
    if node.spec.view is None:
        if not Path(asked.folder, _INDEX).is_file():
            raise _absent(asked, "")
        return ""
    archive, errors = f"{work}/image.tar", f"{work}/errors"
    folder = shlex.quote(asked.folder)
    command = f"test -f {folder}/{_INDEX} && exec tar -C {folder} -cf - ."
    ended: list[int] = []
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    fds = [os.open(path, flags, 0o600) for path in (archive, errors)]
    try:
        node.start(command, node.environment, fds[0], fds[1], ended.append)
        node.loop.run_until(lambda: bool(ended))
    finally:
        for fd in fds:
            os.close(fd)
    if ended[0] != 0:
        raise _absent(asked, tidy(Path(errors).read_text(errors="replace")))
    return archive


def _absent(asked: Wanted, said: str) -> ContainerError:
    return ContainerError(
        f"there is no image in the directory {asked.folder}, or the job may not read it",
        "Make one with `podman push IMAGE oci:DIRECTORY:TAG` where the job's user can read it, such as below "
        "$AZ_BATCHAI_MOUNT_ROOT.",
        said,
    )
