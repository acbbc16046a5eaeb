"""Quotas: how many clusters and cores a subscription may have in a region (rest-contract section 11, behaviour 2).

A limit is named as the list of usages names it, so that what an administrator writes is what users see. Limits are a
subscription's in each region.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from trainshed.resources.vmsizes import LOCAL_FAMILY, VmSize, find_size

#: Families in the order of the contract's list.
FAMILIES = ("D", "Dv2", "NC", "NCv2", "NCv3", "ND", "NV")
CLUSTERS = "Clusters"
#: vmPriority and the word for it in the names of usages.
PRIORITIES: Mapping[str, str] = {"dedicated": "Dedicated", "lowpriority": "LowPriority"}

#: The original's default (behaviour 2), and the highest of the core limits that were recorded (rest-contract 11).
DEFAULT_CLUSTERS = 20
DEFAULT_CORES = 600
#: Cores of a machine's own sizes where nobody said how many it promises: one CPU, promised eight times.
DEFAULT_LOCAL_CORES = 8


class InvalidQuotas(Exception):
    """The quotas that an administrator wrote cannot be read: the message says what is wrong and what would be right."""


def total_cores(priority: str) -> str:
    """The name of the limit of all cores of a vmPriority."""
    return f"Total Cluster {PRIORITIES[priority]} Regional vCPUs"


def family_cores(family: str, priority: str) -> str:
    """The name of the limit of a family's cores of a vmPriority."""
    return f"Standard {family} Family Cluster {PRIORITIES[priority]} vCPUs"


def counters(size: VmSize, priority: str) -> tuple[str, ...]:
    """The limits that a core of this size counts against; families outside the contract's list have no own."""
    if size.family in (*FAMILIES, LOCAL_FAMILY):
        return total_cores(priority), family_cores(size.family, priority)
    return (total_cores(priority),)


def names() -> tuple[str, ...]:
    """Every limit, in the contract's order; those of this machine's own sizes come last."""
    found = [CLUSTERS]
    for priority in PRIORITIES:
        found += [total_cores(priority), *(family_cores(family, priority) for family in FAMILIES)]
    return (*found, *(family_cores(LOCAL_FAMILY, priority) for priority in PRIORITIES))


@dataclass(frozen=True, slots=True)
class ClusterUse:
    """What quotas need of a cluster: its nodes now, and at least how many its scale settings promise it."""

    key: str
    vm_size: str
    #: ``dedicated`` or ``lowpriority``.
    vm_priority: str
    nodes: int
    promised: int = 0

    @property
    def reserved(self) -> int:
        """Nodes that others cannot have."""
        return max(self.nodes, self.promised)


@dataclass(frozen=True, slots=True)
class Excess:
    """A limit that would be exceeded."""

    name: str
    limit: int
    in_use: int
    requested: int

    @property
    def left(self) -> int:
        """What could still be had."""
        return max(0, self.limit - self.in_use)


@dataclass(frozen=True)
class Limits:
    """The limits of one subscription."""

    values: Mapping[str, int]

    def of(self, name: str) -> int:
        """One limit."""
        return self.values[name]

    def clusters_excess(self, uses: Sequence[ClusterUse]) -> Excess | None:
        """Why one more cluster cannot be had, None if it can."""
        if len(uses) < self.values[CLUSTERS]:
            return None
        return Excess(CLUSTERS, self.values[CLUSTERS], len(uses), 1)

    def cores_excess(
        self, others: Iterable[ClusterUse], size: VmSize, priority: str, nodes: int, sizes: Mapping[str, VmSize]
    ) -> Excess | None:
        """Why so many nodes of a size cannot be had beside ``others``: the tightest limit. None if they can."""
        reserved = reserved_cores(others, sizes)
        requested = nodes * size.cores
        excesses = [
            Excess(name, self.values[name], reserved[name], requested)
            for name in counters(size, priority)
            if requested and reserved[name] + requested > self.values[name]
        ]
        return min(excesses, key=lambda excess: excess.left, default=None)

    def nodes_allowed(
        self, others: Iterable[ClusterUse], size: VmSize, priority: str, sizes: Mapping[str, VmSize]
    ) -> int:
        """The most nodes of a size that can be had beside ``others``."""
        reserved = reserved_cores(others, sizes)
        return min(max(0, self.values[name] - reserved[name]) // size.cores for name in counters(size, priority))


def promised_nodes(scale: Mapping[str, Mapping[str, int]]) -> int:
    """The fewest nodes that scale settings ask for: those of a manual size, or the minimum of an automatic one."""
    if "autoScale" in scale:
        return int(scale["autoScale"]["minimumNodeCount"])
    return int(scale.get("manual", {}).get("targetNodeCount", 0))


def reserved_cores(uses: Iterable[ClusterUse], sizes: Mapping[str, VmSize]) -> Counter[str]:
    """Cores that are in use or promised, by the limits that they count against."""
    cores: Counter[str] = Counter()
    for use in uses:
        size = find_size(use.vm_size, sizes)
        if size is not None:
            for name in counters(size, use.vm_priority):
                cores[name] += size.cores * use.reserved
    return cores


@dataclass(frozen=True)
class Quotas:
    """All limits: the defaults, what holds for every subscription, and what holds for some."""

    defaults: Mapping[str, int] = field(default_factory=lambda: default_limits(DEFAULT_LOCAL_CORES))
    everyone: Mapping[str, int] = field(default_factory=dict)
    #: By subscription id in lower case.
    subscriptions: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def limits(self, subscription: str) -> Limits:
        """What holds for a subscription."""
        return Limits({**self.defaults, **self.everyone, **self.subscriptions.get(subscription.lower(), {})})


def default_limits(local_cores: int) -> dict[str, int]:
    """Limits where nobody wrote any, on a machine that promises so many cores of its own sizes."""
    limits = dict.fromkeys(names(), DEFAULT_CORES)
    limits[CLUSTERS] = DEFAULT_CLUSTERS
    for priority in PRIORITIES:
        limits[family_cores(LOCAL_FAMILY, priority)] = local_cores
        limits[total_cores(priority)] = max(DEFAULT_CORES, local_cores)
    return limits


def read_quotas(text: str, local_cores: int) -> Quotas:
    """Read an administrator's quotas: ``{"*": {name: limit}, "subscription id": {name: limit}}``.

    Names are those of the usages, in any case. Raises InvalidQuotas.
    """
    try:
        written = json.loads(text)
    except ValueError as error:
        raise InvalidQuotas(f"it is not JSON ({error})") from None
    if not isinstance(written, dict) or not all(isinstance(limits, dict) for limits in written.values()):
        raise InvalidQuotas('it must be an object of objects, for example {"*": {"Clusters": 50}}')
    known = {name.lower(): name for name in names()}
    read = {key.lower(): _limits(key, limits, known) for key, limits in written.items()}
    everyone = read.pop("*", {})
    return Quotas(default_limits(local_cores), everyone, read)


def _limits(key: str, written: Mapping[str, Any], known: Mapping[str, str]) -> dict[str, int]:
    limits = {}
    for name, limit in written.items():
        if name.lower() not in known:
            near = get_close_matches(name.lower(), known, n=1) or ["clusters"]
            raise InvalidQuotas(f"{key!r} has {name!r}, which is no limit; did you mean {known[near[0]]!r}?")
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
            raise InvalidQuotas(f"{name!r} of {key!r} must be a whole number, 0 or more")
        limits[known[name.lower()]] = limit
    return limits
