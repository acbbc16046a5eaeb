"""What the control loops are told when they are made."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Connection

from trainshed.engines.protocol import EngineTraits
from trainshed.resources.engines import DEFAULT_ENGINE
from trainshed.resources.host_directories import AllowedDirectory
from trainshed.resources.prices import Prices
from trainshed.resources.quotas import Quotas
from trainshed.resources.storage_endpoints import StorageEndpoints
from trainshed.resources.users import JobUser
from trainshed.resources.vmsizes import VmSize
from trainshed.scheduling.health import LossLimits
from trainshed.scheduling.replacing import ReplacementPolicy

#: Between two tries to get nodes that could not be had.
LONGEST_ALLOCATION_PAUSE_SECONDS = 600.0


def now_ms() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


def new_id() -> str:
    """An id for an attempt, never given before."""
    return uuid.uuid4().hex


@dataclass(frozen=True)
class ControlSettings:
    """Knobs of the loops. Times in seconds unless the name says otherwise."""

    #: Sizes that this machine adds to the catalogue.
    local_sizes: Mapping[str, VmSize] = field(default_factory=dict)
    #: Between SIGTERM and SIGKILL when an attempt is stopped.
    grace_seconds: float = 5.0
    #: How often everything is compared with the engine's own view although no event came.
    slow_clock_seconds: float = 5.0
    #: How often a job may lose its attempt to infrastructure before it is given up; how often in a row that may happen
    #: on one node, and to one job alone (``scheduling.health``).
    lost_attempts_limit: int = LossLimits.attempts
    node_losses_limit: int = LossLimits.on_node
    lone_losses_limit: int = LossLimits.alone
    #: First pause before nodes that could not be had are asked for again, and before nodes that failed are replaced.
    allocation_retry_seconds: float = ReplacementPolicy.first
    #: How often failed nodes are replaced before a person has to look.
    replacement_tries: int = 10
    #: How long a node takes to start, for estimates of when jobs start.
    node_start_seconds: float = 20.0
    #: The service's home; storage accounts and file servers are directories below it.
    home: Path | None = None
    quotas: Quotas = field(default_factory=Quotas)
    prices: Prices = field(default_factory=Prices)
    storage_endpoints: StorageEndpoints = field(default_factory=StorageEndpoints)
    #: Directories of the machine that jobs may mount.
    host_directories: tuple[AllowedDirectory, ...] = ()
    #: Whom jobs of the workspace with this number run as; None for the service's own user.
    job_user: Callable[[Connection, int], JobUser | None] = field(default=lambda _tx, _number: None)
    #: Whether other processes may control this home before and after this one.
    shared: bool = False
    #: What each engine that is configured does by itself.
    engines: Mapping[str, EngineTraits] = field(default_factory=lambda: {DEFAULT_ENGINE: EngineTraits()})
    #: The request to drain that was done before this process started (``store.draining``).
    drain_known: str | None = None
    clock: Callable[[], int] = field(default=now_ms)
    new_id: Callable[[], str] = field(default=new_id)

    @property
    def losses(self) -> LossLimits:
        """How much loss is borne."""
        return LossLimits(self.lost_attempts_limit, self.node_losses_limit, self.lone_losses_limit)

    @property
    def allocation(self) -> ReplacementPolicy:
        """Nodes that could not be had: there may be room again at any time, so it is tried for ever."""
        return ReplacementPolicy(self.allocation_retry_seconds, LONGEST_ALLOCATION_PAUSE_SECONDS, None)

    @property
    def replacement(self) -> ReplacementPolicy:
        """Nodes that failed."""
        return ReplacementPolicy(first=self.allocation_retry_seconds, tries=self.replacement_tries)
