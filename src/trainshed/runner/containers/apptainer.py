"""apptainer: containers for services that are not root, by its command line.

Written against the documented interface (apptainer 1.2: ``pull``, ``instance start``, ``exec``); the job's processes
are started by it, one ``exec`` each, in one instance for the attempt, as the service's own user.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from trainshed.runner.containers.building import BUILD_SECONDS, Ground, passed_environment
from trainshed.runner.containers.errors import ContainerError, explain
from trainshed.runner.containers.helper import Found
from trainshed.runner.hands import Files, Own
from trainshed.runner.processes import start_program


class Commanded(Own):
    """Whoever starts commands in an instance. Files are the node's: the container has the same directories."""

    def __init__(self, program: tuple[str, ...], death_signal: int) -> None:
        """``program``: what comes before the shell's command line."""
        super().__init__()
        self._program = program
        self.death_signal = death_signal

    def close(self) -> None:
        """The instance ends with the attempt's processes, of which it is one."""

    def start(self, command_line: str, environment: Mapping[str, str], files: Files, folder: str) -> int:
        place = ["--pwd", folder] if folder else []
        arguments = (*self._program[:2], *place, *self._program[2:], "-c", command_line)
        return start_program(arguments, environment, *files, death_signal=self.death_signal)


class Apptainer:
    """For one container."""

    def __init__(self, program: str, ground: Ground) -> None:
        """Raises ContainerError."""
        if ground.owner is not None:
            raise ContainerError(
                "apptainer cannot make its root a user of the job's own", "Install podman: apt-get install podman runc."
            )
        self._program = program
        self._ground = ground

    def build(self) -> Found:
        """Fetch the image and start an instance: what is known, and the ``program`` that enters it."""
        self._call("pull", *self._options(), "--force", self._file, self._source())
        name = f"trainshed-{os.path.basename(os.path.dirname(self._ground.work))}"  # noqa: PTH119, PTH120
        shell = self._shell()
        self._call("instance", "start", *self._start_options(), self._file, name)
        return {
            "id": "",
            "digest": "",
            "environment": [],
            "shell": shell,
            "program": [self._program, "exec", f"instance://{name}", shell],
            "made_by": "apptainer",
        }, []

    def fetch(self) -> Found:
        """Into apptainer's own cache."""
        self._call("pull", *self._options(), "--force", self._file, self._source())
        return {"id": "", "digest": ""}, []

    @property
    def _file(self) -> str:
        return f"{self._ground.work}/image.sif"

    def _source(self) -> str:
        wanted = self._ground.wanted
        if wanted.folder:
            return f"oci:{wanted.folder}:{wanted.tag}" if wanted.tag else f"oci:{wanted.folder}"
        return f"docker://{wanted.reference}"

    def _options(self) -> list[str]:
        return ["--no-https"] if self._ground.wanted.plain_http else []

    def _start_options(self) -> list[str]:
        ground = self._ground
        binds = [f"{bind.source}:{bind.target}{':ro' if bind.read_only else ''}" for bind in ground.binds]
        gpus = ["--rocm" if Path("/dev/kfd").exists() else "--nv"] if ground.gpus else []
        return ["--writable-tmpfs", "--no-home", *gpus, *(f"--bind={bind}" for bind in binds)]

    def _shell(self) -> str:
        for shell in ("/bin/bash", "/bin/sh"):
            if self._run("exec", "--no-home", self._file, shell, "-c", "exit 0").returncode == 0:
                return shell
        raise ContainerError(
            "the image has neither bash nor sh, and a job's commands are command lines of a shell",
            "Build the image on one that has a shell, such as debian:stable-slim.",
        )

    def _call(self, *arguments: str) -> None:
        done = self._run(*arguments)
        if done.returncode != 0:
            raise explain(done.stderr, (self._ground.wanted.password,))

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        wanted = self._ground.wanted
        environment = {**passed_environment(), "APPTAINER_CACHEDIR": self._ground.stores[0]}
        if wanted.user or wanted.password:
            environment |= {"APPTAINER_DOCKER_USERNAME": wanted.user, "APPTAINER_DOCKER_PASSWORD": wanted.password}
        return subprocess.run(
            [self._program, *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=None if arguments[0] == "pull" else BUILD_SECONDS,
        )
