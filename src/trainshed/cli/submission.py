"""What ``trainshed run`` submits: the contract's properties from a command line and a few options. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any

from trainshed.cli.errors import CommandError
from trainshed.resources.toolsettings import NEWER_TOOL_TYPES

#: Where logs and outputs go without a volume: the cluster's own durable storage.
LOG_PREFIX = "$AZ_BATCHAI_MOUNT_ROOT/logs"
OUTPUT_PREFIX = "$AZ_BATCHAI_MOUNT_ROOT/outputs"
DEFAULT_OUTPUT = "OUTPUT"

#: The service's own variables are known before the command runs, on every node; so they may be expanded early.
_OWN_VARIABLE = re.compile(r"\$(?:AZ_BATCH\w*|\{AZ_BATCH\w*\})")


class Toolkit(StrEnum):
    """How ``run`` can launch a command; the values are the option's."""

    CUSTOM = "custom"
    MPI = "mpi"
    PYTORCH = "pytorch"
    TORCHRUN = "torchrun"
    JAX = "jax"
    DEEPSPEED = "deepspeed"
    ACCELERATE = "accelerate"
    LIGHTNING = "lightning"
    RAY = "ray"


#: Those that start a Python script and need nothing else to be said.
_SCRIPTS = {toolkit: member for member, toolkit in NEWER_TOOL_TYPES.items()}


@dataclass(frozen=True, slots=True)
class Submission:
    """What the options of ``run`` said about the job itself."""

    command: Sequence[str]
    nodes: int = 1
    toolkit: Toolkit = Toolkit.CUSTOM
    processes: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    outputs: Sequence[str] = ()
    time_limit: str | None = None
    priority: str | None = None
    prepare: str | None = None
    retries: int | None = None
    backend: str = "gloo"
    #: dependsOn.
    dependencies: Sequence[Mapping[str, str]] = ()
    #: mountVolumes.
    volumes: Mapping[str, Any] = field(default_factory=dict)

    def properties(self, cluster_id: str, snapshot: str | None) -> dict[str, Any]:
        """The job's properties. ``time_limit`` is ISO 8601. Raises CommandError when the toolkit cannot run it."""
        properties: dict[str, Any] = {
            "cluster": {"id": cluster_id},
            "nodeCount": self.nodes,
            "stdOutErrPathPrefix": LOG_PREFIX,
            "outputDirectories": [
                {
                    "id": output,
                    "pathPrefix": OUTPUT_PREFIX,
                    **({} if output == DEFAULT_OUTPUT else {"pathSuffix": output}),
                }
                for output in self.outputs or (DEFAULT_OUTPUT,)
            ],
            **self._toolkit(),
        }
        if self.environment:
            properties["environmentVariables"] = _pairs(self.environment)
        if self.volumes:
            properties["mountVolumes"] = self.volumes
        if self.secrets:
            properties["secrets"] = _pairs(self.secrets)
        if self.prepare:
            properties["jobPreparation"] = {"commandLine": self.prepare}
        if self.priority:
            properties["schedulingPriority"] = self.priority
        if self.time_limit:
            properties["constraints"] = {"maxWallClockTime": self.time_limit}
        if self.retries:
            properties["retryPolicy"] = {"maxRetries": self.retries}
        if self.dependencies:
            properties["dependsOn"] = list(self.dependencies)
        if snapshot:
            properties["codeSnapshot"] = snapshot
        return properties

    def _toolkit(self) -> dict[str, Any]:
        count = {} if self.processes is None else {"processCount": self.processes}
        if self.toolkit is Toolkit.MPI:
            return {"customMpiSettings": {"commandLine": command_line(self.command), **count}}
        if self.toolkit is Toolkit.PYTORCH:
            script = _python_script(self.command, self.toolkit)
            return {"pyTorchSettings": {**script, "communicationBackend": self.backend, **count}}
        if self.toolkit in _SCRIPTS and not (count and self.toolkit is Toolkit.RAY):
            return {_SCRIPTS[self.toolkit]: {**_python_script(self.command, self.toolkit), **count}}
        if self.processes is not None:
            raise CommandError(
                "InvalidToolkit",
                f"--processes needs a toolkit that starts several: {self.toolkit} starts one, on the first node",
                "the same with --toolkit mpi or --toolkit pytorch",
            )
        return {"customToolkitSettings": {"commandLine": command_line(self.command)}}


def command_line(command: Sequence[str]) -> str:
    """The words as one line of bash.

    One word is a line already (``"python a.py && python b.py"``). Several are quoted, so that they arrive as they were
    given; only the service's own variables (``$AZ_BATCHAI_OUTPUT_OUTPUT``) are left to be replaced on the node.
    """
    if len(command) == 1:
        return command[0]
    return " ".join(_quoted(word) for word in command)


def _quoted(word: str) -> str:
    parts: list[str] = []
    at = 0
    for variable in _OWN_VARIABLE.finditer(word):
        if variable.start() > at:
            parts.append(shlex.quote(word[at : variable.start()]))
        parts.append(f'"{variable[0]}"')
        at = variable.end()
    if at < len(word) or not word:
        parts.append(shlex.quote(word[at:]))
    return "".join(parts)


def _python_script(command: Sequence[str], toolkit: Toolkit) -> dict[str, str]:
    words = shlex.split(command[0]) if len(command) == 1 else list(command)
    interpreter: dict[str, str] = {}
    if words and PurePosixPath(words[0]).name.startswith("python"):
        # Plain `python` is what the toolkit takes anyway, and it knows what to do where only python3 exists.
        interpreter = {} if words[0] in ("python", "python3") else {"pythonInterpreterPath": words[0]}
        words = words[1:]
    if not words or words[0].startswith("-"):
        raise CommandError(
            "InvalidCommand",
            f"--toolkit {toolkit} starts a Python script, and this command names none",
            f"trainshed run --toolkit {toolkit} -- python train.py ARGUMENTS",
        )
    settings = {"pythonScriptFilePath": words[0], **interpreter}
    if words[1:]:
        settings["commandLineArgs"] = " ".join(_quoted(word) for word in words[1:])
    return settings


def _pairs(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in values.items()]
