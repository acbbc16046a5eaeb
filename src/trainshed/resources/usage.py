"""Usages: how many clusters and cores are in use, and how many may be (rest-contract section 11)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from trainshed.resources.common import Model
from trainshed.resources.vmsizes import VmSize, find_size

#: Families in the order of the contract's list.
FAMILIES = ("D", "Dv2", "NC", "NCv2", "NCv3", "ND", "NV")


class UsageName(Model):
    """Name of a row, and the name to show."""

    value: str
    localized_value: str


class Usage(Model):
    """One row of the list."""

    unit: str
    current_value: int
    limit: int
    name: UsageName


@dataclass(frozen=True, slots=True)
class ClusterUse:
    """What usages need of a cluster: its nodes now, their size, and whether they are ``dedicated``."""

    vm_size: str
    vm_priority: str
    nodes: int


@dataclass(frozen=True, slots=True)
class UsageLimits:
    """Limits of a site. Cores of low priority have a limit of their own (behaviour 2)."""

    clusters: int = 200
    dedicated_cores: int = 10_000
    low_priority_cores: int = 10_000


def usage_rows(
    clusters: Iterable[ClusterUse],
    limits: UsageLimits | None = None,
    extra_sizes: Mapping[str, VmSize] | None = None,
) -> list[dict[str, Any]]:
    """The rows in the contract's order; nodes of sizes outside its families count in the regional totals only."""
    limits = limits or UsageLimits()
    count = 0
    cores: Counter[tuple[str, str]] = Counter()
    for cluster in clusters:
        count += 1
        size = find_size(cluster.vm_size, extra_sizes)
        if size is not None:
            used = size.cores * cluster.nodes
            cores[cluster.vm_priority, ""] += used
            cores[cluster.vm_priority, size.family] += used
    rows = [_row("Clusters", count, limits.clusters)]
    for priority, word, limit in (
        ("dedicated", "Dedicated", limits.dedicated_cores),
        ("lowpriority", "LowPriority", limits.low_priority_cores),
    ):
        rows.append(_row(f"Total Cluster {word} Regional vCPUs", cores[priority, ""], limit))
        for family in FAMILIES:
            rows.append(_row(f"Standard {family} Family Cluster {word} vCPUs", cores[priority, family], limit))
    return rows


def _row(name: str, current: int, limit: int) -> dict[str, Any]:
    shown = name.replace("LowPriority", "Low Priority")
    return {
        "unit": "Count",
        "currentValue": current,
        "limit": limit,
        "name": {"value": name, "localizedValue": shown},
    }
