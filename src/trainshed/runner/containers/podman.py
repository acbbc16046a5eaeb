"""podman: fetches images into a store of the service's own, and builds the ground of a container.

As it comes, podman fails on machines that restrict even root (limits, control groups); its settings are computed, and
nothing of the machine's own podman is touched. All methods run in a process of their own (``helper.ask``) on a stage.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import resource
import signal
import subprocess
from base64 import b64encode
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from trainshed.runner.containers import cgroups, executor, stage
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
from trainshed.runner.containers.settings import (
    Bind,
    bind_arguments,
    containers_conf,
    gpu_arguments,
    storage_conf,
)


class Podman:
    """On the stage of one container."""

    def __init__(self, ground: Ground) -> None:
        """Raises ContainerError, OSError."""
        self._program, self._runtime = executor.podman()
        self._ground = ground
        layout = ground.archive or ground.wanted.folder
        extra = [Bind(layout, "")] if layout else []
        self._stage = stage.Stage(
            ground.stores, ground.work, [*ground.binds, *extra], stranger=ground.owner is not None
        )
        self._binds = self._stage.binds[: len(ground.binds)]
        self._oci = f"{'oci-archive' if ground.archive else 'oci'}:{self._stage.binds[-1].source}" if extra else ""
        for name in ("graph", "run", "tmp", "runtime"):
            Path(self._stage.path("work"), name).mkdir()
        _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
        _, processes = resource.getrlimit(resource.RLIMIT_NPROC)
        conf = containers_conf(self._runtime, files, processes, int(Path("/proc/sys/kernel/pid_max").read_text()))
        self._conf = self._stage.write("containers.conf", conf)

    def build(self) -> Found:
        """Fetch the image if need be, and build the container.

        What is known of the image (``id``, ``digest``, ``environment``, ``shell``), and the namespaces' descriptors in
        the order of ``kinds``. Raises ContainerError, OSError.
        """
        storage = self._stage.write(
            "storage.conf",
            storage_conf("overlay", self._stage.stores[0], self._stage.path("work/run"), self._stage.stores[1:]),
        )
        image = self._image(storage)
        check_platform(image)
        root = self._root(image)
        shell = find_shell(lambda: os.chroot(root))
        kinds, descriptors = self._namespaces(root, shell)
        config = image.get("Config") or {}
        return {
            "id": image.get("Id", ""),
            "digest": image.get("Digest", ""),
            "environment": config.get("Env") or [],
            "shell": shell,
            "kinds": kinds,
            "made_by": f"podman with {self._runtime.name}",
        }, descriptors

    def fetch(self) -> Found:
        """Only fetch the image, if need be: its ``id`` and ``digest``. Raises ContainerError, OSError."""
        storage = self._stage.write(
            "storage.conf",
            storage_conf("overlay", self._stage.stores[0], self._stage.path("work/run"), self._stage.stores[1:]),
        )
        image = self._image(storage)
        check_platform(image)
        return {"id": image.get("Id", ""), "digest": image.get("Digest", "")}, []

    def _image(self, storage: str) -> dict[str, Any]:
        """What podman knows of the image, fetched unless it is in a store; one fetches it for all."""
        wanted = self._ground.wanted
        if wanted.folder:
            return self._layout(storage)
        found = self._first_known(storage)
        if found is not None:
            return found
        with self._only_one(wanted.reference):
            found = self._first_known(storage)
            if found is not None:
                return found
            self._pull(storage, f"docker://{wanted.reference}", *self._sign_in())
        found = self._known(storage, wanted.reference)
        if found is None:
            raise ContainerError("the image was fetched and is not there", "Run the job again.")
        return found

    def _first_known(self, storage: str) -> dict[str, Any] | None:
        return next(filter(None, (self._known(storage, name) for name in self._ground.wanted.known_as)), None)

    def _layout(self, storage: str) -> dict[str, Any]:
        wanted = self._ground.wanted
        with self._only_one(wanted.folder):
            said = self._pull(storage, f"{self._oci}:{wanted.tag}" if wanted.tag else self._oci)
        found = self._known(storage, said.split()[-1] if said.split() else "")
        if found is None:
            raise ContainerError("the image of the directory cannot be found", "Check the directory and its tag.")
        return found

    def _pull(self, storage: str, source: str, *options: str) -> str:
        done = self._run(storage, "pull", "--quiet", *options, source)
        if done.returncode != 0:
            raise explain(done.stderr, (self._ground.wanted.password,))
        return done.stdout

    def _sign_in(self) -> list[str]:
        """Options with credentials; a job that has a user of its own never uses those of the service's user."""
        wanted = self._ground.wanted
        options = ["--tls-verify=false"] if wanted.plain_http else []
        if wanted.user or wanted.password:
            token = b64encode(f"{wanted.user}:{wanted.password}".encode()).decode()
            text = json.dumps({"auths": {wanted.server: {"auth": token}}})
        elif self._ground.owner is not None:
            text = "{}"
        else:
            return options
        path = self._stage.path("auth.json")
        if not Path(path).exists():
            self._stage.write("auth.json", text)
        return [*options, f"--authfile={path}"]

    def _known(self, storage: str, name: str) -> dict[str, Any] | None:
        done = self._run(storage, "image", "inspect", name) if name else None
        if done is None or done.returncode != 0:
            return None
        found: list[dict[str, Any]] = json.loads(done.stdout)
        return found[0]

    def _root(self, image: Mapping[str, Any]) -> str:
        """The container's root file system. Raises ContainerError, OSError."""
        data = (image.get("GraphDriver") or {}).get("Data") or {}
        layers = [path for part in ("UpperDir", "LowerDir") for path in str(data.get(part) or "").split(":") if path]
        if not layers:
            raise ContainerError("the image has no layers that can be mounted", "Look at it with podman image inspect.")
        ground = self._ground
        users = None
        if ground.owner is not None:
            users = stage.user_namespace(stage.id_maps(ground.owner, ground.others))
        try:
            return self._stage.overlay(layers, ground.owner or 0, users)
        except OSError as error:
            raise ContainerError(
                "the node cannot put the image's layers together",
                "It needs overlayfs and Linux 5.19, and a home on a disk of its own (ext4, xfs, btrfs).",
                f"{error.strerror} {error.filename or ''}".strip(),
            ) from error

    def _namespaces(self, root: str, shell: str) -> tuple[list[str], list[int]]:
        """Have podman and the runtime build the container, take its namespaces, and take their own traces away."""
        storage = self._stage.write(
            "build.conf",
            storage_conf("overlay", self._stage.path("work/graph"), self._stage.path("work/run"), ()),
        )
        done = self._run(storage, *self._create_arguments(root, shell), seconds=BUILD_SECONDS)
        if done.returncode != 0:
            raise explain(done.stderr)
        container = done.stdout.split()[-1]
        pid, monitor = self._stage.path("work/pid"), self._stage.path("work/monitor")
        try:
            done = self._run(storage, "init", container, seconds=BUILD_SECONDS)
            if done.returncode != 0:
                raise explain(done.stderr)
            folder = Path("/proc", Path(pid).read_text().strip(), "ns")
            own = self._ground.owner is not None
            kinds = [kind for kind in KINDS if own or kind != "user"]
            return kinds, [os.open(folder / kind, os.O_RDONLY | os.O_CLOEXEC) for kind in kinds]
        finally:
            self._take_away(container, monitor)

    def _create_arguments(self, root: str, shell: str) -> list[str]:
        ground = self._ground
        arguments = [
            "create",
            "--pid=host",
            "--network=host",
            "--no-hosts",
            f"--hostname={ground.host_name}",
            "--log-driver=none",
            "--security-opt=label=disable",
            "--user=0:0",
            f"--pidfile={self._stage.path('work/pid')}",
            f"--conmon-pidfile={self._stage.path('work/monitor')}",
            "--cgroups=no-conmon",
            f"--cgroup-parent={ground.group}",
            *bind_arguments(self._binds),
            *gpu_arguments("podman", ground.gpus, control_devices()),
        ]
        if ground.wanted.shm_size:
            arguments.append(f"--shm-size={ground.wanted.shm_size}")
        if ground.owner is not None:
            for inside, outside, count in stage.id_maps(ground.owner, ground.others):
                arguments += [f"--uidmap={inside}:{outside}:{count}", f"--gidmap={inside}:{outside}:{count}"]
        return [*arguments, "--rootfs", root, shell]

    def _take_away(self, container: str, monitor: str) -> None:
        """End conmon, which would unmount the root, then what waits in the container, and their control groups."""
        with suppress(OSError, ValueError):
            os.kill(int(Path(monitor).read_text()), signal.SIGKILL)
        root = self._stage.path("work/runtime")
        with suppress(subprocess.TimeoutExpired):
            subprocess.run(
                [self._runtime.path, "--root", root, "delete", "--force", container],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=BUILD_SECONDS,
            )
        cgroups.remove(self._ground.group)

    def _run(
        self, storage: str, command: str, *arguments: str, seconds: float | None = None
    ) -> subprocess.CompletedProcess[str]:
        temporary = self._stage.path("work/tmp")
        options = [f"--tmpdir={temporary}", "--log-level=error"]
        options.append(f"--runtime-flag=root={self._stage.path('work/runtime')}")
        try:
            return subprocess.run(
                [self._program, *options, command, *arguments],
                env={
                    **passed_environment(),
                    "CONTAINERS_CONF": self._conf,
                    "CONTAINERS_STORAGE_CONF": storage,
                    "TMPDIR": temporary,
                },
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired as error:
            raise ContainerError(
                f"podman {command} did not end within {seconds:g} s", "Look at the load of the node."
            ) from error

    def _only_one(self, name: str) -> _Locked:
        return _Locked(f"{self._stage.stores[0]}/.{hashlib.sha256(name.encode()).hexdigest()[:32]}.lock")


class _Locked:
    """Held by one process of the machine at a time."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor = -1

    def __enter__(self) -> None:
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
