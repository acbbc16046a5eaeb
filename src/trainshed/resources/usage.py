"""Usages: how many clusters and cores are in use, and how many may be (rest-contract section 11)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from trainshed.resources import quotas
from trainshed.resources.common import Model
from trainshed.resources.quotas import ClusterUse, Limits
from trainshed.resources.vmsizes import LOCAL_FAMILY, VmSize, find_size


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


def usage_rows(
    clusters: Sequence[ClusterUse],
    limits: Limits,
    extra_sizes: Mapping[str, VmSize] | None = None,
    *,
    own_sizes: bool = False,
) -> list[dict[str, Any]]:
    """The rows in the contract's order; nodes of sizes outside its families count in the regional totals only.

    ``own_sizes`` adds the rows of this machine's own sizes, which the contract's list does not have.
    """
    used: Counter[str] = Counter({quotas.CLUSTERS: len(clusters)})
    for cluster in clusters:
        size = find_size(cluster.vm_size, extra_sizes)
        if size is not None:
            for name in quotas.counters(size, cluster.vm_priority):
                used[name] += size.cores * cluster.nodes
    own = {quotas.family_cores(LOCAL_FAMILY, priority) for priority in quotas.PRIORITIES}
    return [_row(name, used[name], limits.of(name)) for name in quotas.names() if own_sizes or name not in own]


def _row(name: str, current: int, limit: int) -> dict[str, Any]:
    shown = name.replace("LowPriority", "Low Priority")
    return {
        "unit": "Count",
        "currentValue": current,
        "limit": limit,
        "name": {"value": name, "localizedValue": shown},
    }
