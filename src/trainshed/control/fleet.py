"""Which cluster is on which engine, what that engine does by itself, and whether it can be reached now."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property

from sqlalchemy import Connection

from trainshed.control.settings import ControlSettings
from trainshed.engines.protocol import EngineTraits
from trainshed.resources.lifecycle import ProvisioningState
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.store import clusters, meta
from trainshed.store.records import ClusterRecord

#: Fact in ``meta``: engines that could not be reached when their views were last asked for, and why.
_AWAY = "engines away"
_NO_TRAITS = EngineTraits()


class Fleet:
    """The engines of one moment, as one transaction sees them."""

    def __init__(self, tx: Connection, settings: ControlSettings, absent: Mapping[str, Reason]) -> None:
        """``absent``: engines that cannot be reached, with why."""
        self._tx = tx
        self._engines = settings.engines
        self._absent = absent

    @cached_property
    def _engine_of(self) -> dict[str, str]:
        return clusters.engines(self._tx)

    def why_away(self, engine: str) -> Reason | None:
        """Why an engine cannot be used now; None if it can."""
        if engine not in self._engines:
            text = (
                f"Engine {engine} is not configured on this service. Add it (trainshed engine add) and start the "
                "service again, or delete the cluster."
            )
            return Reason(ReasonCode.ENGINE_UNAVAILABLE, text)
        return self._absent.get(engine)

    def away(self, cluster_uid: str) -> bool:
        """Whether nothing is known of the cluster's nodes and gangs now. False for a cluster that is gone."""
        engine = self._engine_of.get(cluster_uid)
        return engine is not None and self.why_away(engine) is not None

    def queues(self, cluster_uid: str) -> bool:
        """Whether the cluster's engine queues by itself. False for a cluster that is gone."""
        return queues(self._engines, self._engine_of.get(cluster_uid, ""))

    def mirrored(self) -> list[ClusterRecord]:
        """Clusters whose nodes are the engine's own, as far as those can be seen now; none that is being deleted."""
        return [
            cluster
            for cluster in clusters.all(self._tx)
            if queues(self._engines, cluster.engine)
            and self.why_away(cluster.engine) is None
            and cluster.state is not ProvisioningState.DELETING
        ]


def queues(engines: Mapping[str, EngineTraits], engine: str) -> bool:
    """Whether an engine queues by itself."""
    return engines.get(engine, _NO_TRAITS).queues


def note_away(tx: Connection, absent: Mapping[str, Reason]) -> None:
    """Have every process of the service know which engines cannot be reached."""
    told = json.dumps({name: reason.to_json() for name, reason in sorted(absent.items())})
    if (meta.get(tx, _AWAY) or "{}") != told:
        meta.set(tx, _AWAY, told)


def recorded_fleet(tx: Connection, settings: ControlSettings) -> Fleet:
    """The fleet as the process that controls saw it last."""
    told = json.loads(meta.get(tx, _AWAY) or "{}")
    return Fleet(tx, settings, {name: Reason.from_json(reason) for name, reason in told.items()})
