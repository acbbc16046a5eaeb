"""docker: the same ground as podman's, built by an engine that runs elsewhere on the machine.

The engine starts a container whose only process waits; its namespaces are opened, and the job's directories mounted
into it (the engine does not see what a node has mounted). That process reads from a FIFO which the runner holds open:
whatever becomes of the runner, the container ends with it, and the engine removes it.
"""

from __future__ import annotations

import json
import os
import subprocess
from base64 import b64encode
from contextlib import suppress
from pathlib import Path
from typing import Any

from trainshed.runner import linux
from trainshed.runner.containers.building import (
    BUILD_SECONDS,
    Ground,
    check_platform,
    control_devices,
    find_shell,
    passed_environment,
)
from trainshed.runner.containers.errors import ContainerError, explain
from trainshed.runner.containers.hands import KINDS
from trainshed.runner.containers.helper import Found
from trainshed.runner.containers.settings import gpu_arguments
from trainshed.runner.containers.wanted import HUB

_PROC_FLAGS = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
#: The FIFO, on the node and in the container.
_ALIVE, _ALIVE_INSIDE = "alive", "/run/.trainshed-alive"
#: The name that docker keeps Docker Hub's credentials under.
_HUB_KEY = "https://index.docker.io/v1/"


class Docker:
    """For one container. All of it happens in a process that is for this alone, which must be root."""

    def __init__(self, program: str, ground: Ground) -> None:
        """Raises ContainerError, OSError."""
        if ground.owner is not None:
            raise ContainerError(
                "docker cannot make its root a user of the job's own", "Install podman: apt-get install podman runc."
            )
        if ground.wanted.folder:
            raise ContainerError(
                "docker takes no image from a directory", "Install podman: apt-get install podman runc."
            )
        self._program = program
        self._ground = ground
        linux.unshare(linux.CLONE_NEWNS)
        linux.mount("none", "/", None, linux.MS_REC | linux.MS_PRIVATE)
        self._config = f"{ground.work}/config"
        Path(self._config).mkdir()
        # In memory: what signs in at the registry lies there.
        linux.mount("none", self._config, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=0700")

    def build(self) -> Found:
        """As ``Podman.build``."""
        image = self._image()
        check_platform(image)
        os.mkfifo(f"{self._ground.work}/{_ALIVE}", 0o600)
        alive = os.open(f"{self._ground.work}/{_ALIVE}", os.O_RDWR | os.O_CLOEXEC)
        container = self._call(*self._run_arguments(str(image["Id"]))).strip()
        [told] = json.loads(self._call("inspect", container))
        self._show_machines_processes()
        folder = Path("/proc", str(told["State"]["Pid"]), "ns")
        kinds = [kind for kind in KINDS if kind != "user"]
        descriptors = [os.open(folder / kind, os.O_RDONLY | os.O_CLOEXEC) for kind in kinds]
        self._furnish(descriptors[kinds.index("mnt")])
        view = descriptors[kinds.index("mnt")]
        return {
            "id": image["Id"],
            "digest": _digest(image),
            "environment": (image.get("Config") or {}).get("Env") or [],
            "shell": find_shell(lambda: linux.enter_namespace(view, linux.CLONE_NEWNS)),
            "kinds": [*kinds, "alive"],
            "made_by": "docker",
            "remove": [self._program, "rm", "--force", container],
        }, [*descriptors, alive]

    def fetch(self) -> Found:
        """As ``Podman.fetch``."""
        image = self._image()
        check_platform(image)
        return {"id": image["Id"], "digest": _digest(image)}, []

    def _image(self) -> dict[str, Any]:
        wanted = self._ground.wanted
        for name in (*wanted.known_as, *(name.removeprefix("localhost/") for name in wanted.known_as)):
            with suppress(ContainerError):
                return self._inspected(name)
        options = []
        if wanted.user or wanted.password:
            token = b64encode(f"{wanted.user}:{wanted.password}".encode()).decode()
            key = _HUB_KEY if wanted.server == HUB else wanted.server
            Path(self._config, "config.json").write_text(json.dumps({"auths": {key: {"auth": token}}}))
            options = ["--config", self._config]
        self._call(*options, "pull", "--quiet", wanted.reference, seconds=None)
        return self._inspected(wanted.reference)

    def _inspected(self, name: str) -> dict[str, Any]:
        [found] = json.loads(self._call("image", "inspect", name))
        assert isinstance(found, dict)
        return found

    def _run_arguments(self, image: str) -> list[str]:
        ground = self._ground
        shm = [f"--shm-size={ground.wanted.shm_size}"] if ground.wanted.shm_size else []
        return [
            "run",
            "--rm",
            "--detach",
            "--pull=never",
            "--network=host",
            f"--hostname={ground.host_name}",
            "--user=0:0",
            "--workdir=/",
            "--log-driver=none",
            "--security-opt=label=disable",
            f"--volume={ground.work}/{_ALIVE}:{_ALIVE_INSIDE}",
            *shm,
            *gpu_arguments("docker", ground.gpus, control_devices()),
            "--entrypoint=/bin/sh",
            image,
            "-c",
            f"read -r end < {_ALIVE_INSIDE}",
        ]

    def _call(self, *arguments: str, seconds: float | None = BUILD_SECONDS) -> str:
        """What it prints. Raises ContainerError."""
        try:
            done = subprocess.run(
                [self._program, *arguments],
                env=passed_environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired as error:
            raise ContainerError("the docker engine does not answer", "Look at it: docker info.") from error
        if done.returncode != 0:
            raise explain(done.stderr, (self._ground.wanted.password,))
        return done.stdout

    def _show_machines_processes(self) -> None:
        """docker speaks of processes as the machine numbers them; over that lies the attempt's own ``/proc``."""
        linux.unmount("/proc", linux.MNT_DETACH)
        if not Path("/proc/self").exists():
            linux.mount("proc", "/proc", "proc", _PROC_FLAGS)

    def _furnish(self, view: int) -> None:
        """Mount the job's directories, and a ``/proc`` of the processes that will be there, in the container."""
        trees = [(bind, linux.clone_tree(bind.source), Path(bind.source).is_dir()) for bind in self._ground.binds]
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                linux.enter_namespace(view, linux.CLONE_NEWNS)
                for bind, tree, folder in trees:
                    linux.restrict_mounts(tree, linux.MOUNT_ATTR_NOSUID | linux.MOUNT_ATTR_NODEV)
                    if bind.read_only:
                        linux.restrict_mounts(tree, linux.MOUNT_ATTR_RDONLY)
                    if folder:
                        Path(bind.target).mkdir(parents=True, exist_ok=True)
                    elif not Path(bind.target).exists():
                        Path(bind.target).touch()
                    linux.attach_tree(tree, bind.target)
                linux.mount("proc", "/proc", "proc", _PROC_FLAGS)
            except OSError as error:
                os.write(writing, f"{error.strerror} {error.filename or ''}".encode())
            finally:
                os._exit(0)
        os.close(writing)
        with open(reading, "rb") as answer:
            why_not = answer.read().decode()
        os.waitpid(pid, 0)
        if why_not:
            raise ContainerError("the job's directories cannot be mounted in the container", "Try podman.", why_not)


def _digest(image: dict[str, Any]) -> str:
    """As the registry names it; images that were built here have none."""
    names = image.get("RepoDigests") or [""]
    return str(names[0]).partition("@")[2]
