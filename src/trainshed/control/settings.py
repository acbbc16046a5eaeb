"""What the control loops are told when they are made."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Connection

from trainshed.resources.host_directories import AllowedDirectory
from trainshed.resources.quotas import Quotas
from trainshed.resources.storage_endpoints import StorageEndpoints
from trainshed.resources.users import JobUser
from trainshed.resources.vmsizes import VmSize


def now_ms() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class ControlSettings:
    """Knobs of the loops. Times in seconds unless the name says otherwise."""

    #: Sizes that this machine adds to the catalogue.
    local_sizes: Mapping[str, VmSize] = field(default_factory=dict)
    #: Between SIGTERM and SIGKILL when an attempt is stopped.
    grace_seconds: float = 5.0
    #: How often everything is compared with the engine's own view although no event came.
    slow_clock_seconds: float = 5.0
    #: How often a job may lose its attempt to infrastructure before it is given up.
    lost_attempts_limit: int = 20
    #: Pause before nodes that could not be had are asked for again.
    allocation_retry_seconds: float = 60.0
    #: The service's home; storage accounts and file servers are directories below it.
    home: Path | None = None
    quotas: Quotas = field(default_factory=Quotas)
    storage_endpoints: StorageEndpoints = field(default_factory=StorageEndpoints)
    #: Directories of the machine that jobs may mount.
    host_directories: tuple[AllowedDirectory, ...] = ()
    #: Whom jobs of the workspace with this number run as; None for the service's own user.
    job_user: Callable[[Connection, int], JobUser | None] = field(default=lambda _tx, _number: None)
    #: Whether other processes may control this home before and after this one.
    shared: bool = False
    #: The request to drain that was done before this process started (``store.draining``).
    drain_known: str | None = None
    clock: Callable[[], int] = field(default=now_ms)
