"""What clusters use of a subscription's quotas in each region: one query for all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, bindparam, func, select

from trainshed.resources.cluster import engine_of
from trainshed.resources.engines import DEFAULT_ENGINE
from trainshed.resources.lifecycle import ProvisioningState
from trainshed.resources.names import normal_location
from trainshed.resources.quotas import ClusterUse, promised_nodes
from trainshed.store.encoding import from_json
from trainshed.store.tables import NOT_GONE, clusters, nodes, workspaces


@dataclass(frozen=True, slots=True)
class Region:
    """A subscription (in lower case) and a region (as ``names.normal_location`` writes it)."""

    subscription: str
    location: str

    @classmethod
    def of(cls, subscription: str, location: str) -> Region:
        """The same for every spelling."""
        return cls(subscription.lower(), normal_location(location))


_node_counts = (
    select(nodes.c.cluster_uid, func.count().label("count")).where(NOT_GONE).group_by(nodes.c.cluster_uid).subquery()
)
_clusters = (
    select(
        workspaces.c.subscription,
        workspaces.c.location,
        clusters.c.key,
        clusters.c.vm_size,
        clusters.c.definition,
        clusters.c.scale,
        clusters.c.state,
        func.coalesce(_node_counts.c.count, 0),
    )
    .join(workspaces, workspaces.c.key == clusters.c.workspace_key)
    .outerjoin(_node_counts, _node_counts.c.cluster_uid == clusters.c.uid)
    .order_by(clusters.c.key)
)
_of_subscription = _clusters.where(workspaces.c.key > bindparam("start"), workspaces.c.key < bindparam("end"))


def everywhere(tx: Connection) -> dict[Region, list[ClusterUse]]:
    """What every cluster uses. Those of other engines than the service's own use no cores that it has to give."""
    return _read(tx, _clusters, {})


def of_region(tx: Connection, region: Region) -> list[ClusterUse]:
    """What the clusters of a subscription use in a region."""
    # "0" follows "/": the keys of a subscription lie between.
    bounds = {"start": f"{region.subscription}/", "end": f"{region.subscription}0"}
    return _read(tx, _of_subscription, bounds).get(region, [])


def _read(tx: Connection, statement: Select[Any], parameters: dict[str, str]) -> dict[Region, list[ClusterUse]]:
    found: dict[Region, list[ClusterUse]] = {}
    for subscription, location, key, vm_size, definition, scale, state, count in tx.execute(statement, parameters):
        properties = from_json(definition)
        own = engine_of(properties) == DEFAULT_ENGINE
        use = ClusterUse(
            key=key,
            vm_size=vm_size,
            vm_priority=properties.get("vmPriority", "dedicated"),
            nodes=count if own else 0,
            promised=promised_nodes(from_json(scale)) if own and state != ProvisioningState.DELETING.value else 0,
        )
        found.setdefault(Region.of(subscription, location), []).append(use)
    return found
