"""The settings of the toolkits that 2026-11-01 adds: what today's training code is started with."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from trainshed.resources.common import CommandLine, choice
from trainshed.resources.settings import ProcessCount, PythonScript

RendezvousBackend = Annotated[Literal["c10d", "static"], BeforeValidator(choice("c10d", "static"))]
#: Most restarts of the workers within one attempt.
MAX_RESTARTS = 100


class RankScript(PythonScript):
    """A script that runs once per rank; by default a rank for each GPU, on nodes without GPUs one a node."""

    command_line_args: CommandLine | None = None
    process_count: ProcessCount | None = None


class TorchrunSettings(RankScript):
    """torchrun: an elastic agent on each node, which starts the node's ranks and restarts all when one fails."""

    rendezvous_backend: RendezvousBackend = "c10d"
    max_restarts: Annotated[int, Field(ge=0, le=MAX_RESTARTS)] = 0


class JaxSettings(RankScript):
    """JAX: ``jax.distributed.initialize()`` without arguments finds the other processes."""


class DeepSpeedSettings(RankScript):
    """DeepSpeed: a process per rank; ``deepspeed.initialize`` finds the others. DS_ACCELERATOR is the user's."""


class AccelerateSettings(RankScript):
    """Hugging Face Accelerate: a process per rank, without ``accelerate launch``."""


class LightningSettings(RankScript):
    """Lightning: a process per rank; the Trainer's num_nodes and devices say the same numbers."""


class RaySettings(PythonScript):
    """Ray: a cluster over the job's nodes, and the script as its driver on the first one."""

    command_line_args: CommandLine | None = None
