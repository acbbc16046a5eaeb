"""What the API stands on: the composition root fills this in, tests fill it with doubles."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Connection

from trainshed.api.authentication import Authenticator
from trainshed.control.explaining import Explanation, Waiting
from trainshed.control.standing import Role, Standing
from trainshed.engines.protocol import EngineTraits
from trainshed.identity import LinkSigner, Vault
from trainshed.identity.keyvault import KeyVault
from trainshed.resources.engines import DEFAULT_ENGINE, Option
from trainshed.resources.host_directories import AllowedDirectory
from trainshed.resources.prices import Prices
from trainshed.resources.quotas import Quotas
from trainshed.resources.reasons import Reason
from trainshed.resources.storage_endpoints import StorageEndpoints
from trainshed.resources.vmsizes import VmSize
from trainshed.store.database import Database
from trainshed.store.records import ClusterRecord, JobRecord


def system_now_ms() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


def _always() -> bool:
    return True


def _never() -> bool:
    return False


def _sole(tx: Connection) -> Standing:
    return Standing(Role.SOLE)


def _alone() -> AbstractContextManager[bool]:
    return nullcontext(True)


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that handlers use."""

    db: Database
    vault: Vault
    links: LinkSigner
    authenticator: Authenticator
    #: Where Key Vault references lead.
    keyvault: KeyVault
    #: The service's home directory; uploaded code lies below it.
    home: Path
    #: Tells the controller that there is something to do. Called after the commit.
    wake: Callable[[], None]
    #: The same when only the queue changed, which is cheaper to look at.
    wake_queue: Callable[[], None]
    #: Why a queued job waits.
    explain: Callable[[Connection, JobRecord], Reason]
    #: The same with when it starts.
    explain_fully: Callable[[Connection, JobRecord], Explanation]
    #: The jobs that wait for a cluster, in order, at most so many.
    queue: Callable[[Connection, ClusterRecord, int], list[Waiting]]
    #: Directory that backs AZ_BATCHAI_MOUNT_ROOT of a cluster (by its uid), or None.
    mount_root: Callable[[str], str | None]
    #: VM sizes beyond Azure's, by upper-case name: what this machine has.
    local_sizes: Mapping[str, VmSize] = field(default_factory=dict)
    #: The region's name, for headers.
    location: str = "local"
    #: The engines, each with what a cluster may ask of it.
    cluster_options: Mapping[str, tuple[Option, ...]] = field(default_factory=lambda: {DEFAULT_ENGINE: ()})
    #: What each engine does by itself.
    engines: Mapping[str, EngineTraits] = field(default_factory=lambda: {DEFAULT_ENGINE: EngineTraits()})
    #: How many clusters and cores each subscription may have.
    quotas: Quotas = field(default_factory=Quotas)
    #: What nodes cost.
    prices: Prices = field(default_factory=Prices)
    #: Where real storage accounts are, as the administrator says.
    storage_endpoints: StorageEndpoints = field(default_factory=StorageEndpoints)
    #: Directories of the machine that jobs may mount.
    host_directories: tuple[AllowedDirectory, ...] = ()
    #: Bytes of the home's disk that nothing that is sent may take.
    disk_reserve: int = 0
    now_ms: Callable[[], int] = system_now_ms
    #: Held while the vault's key is changed.
    rotating: asyncio.Lock = field(default_factory=asyncio.Lock)
    #: Whether the engine can be used now (``/readyz``).
    engine_available: Callable[[], bool] = _always
    #: Who controls, and what this process is.
    standing: Callable[[Connection], Standing] = _sole
    #: Whether no other process serves this home; none joins while the block runs.
    alone: Callable[[], AbstractContextManager[bool]] = _alone
    #: Whether the service is being stopped: streams that would go on then end.
    stopping: Callable[[], bool] = _never
