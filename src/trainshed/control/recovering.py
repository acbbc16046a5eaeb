"""Clusters whose nodes fail or cannot be had: how far each is with trying again, and how it says so."""

from __future__ import annotations

from sqlalchemy import Connection

from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.resources.times import format_time
from trainshed.scheduling.replacing import Recovery, ReplacementPolicy
from trainshed.store import clusters
from trainshed.store.records import ClusterRecord


def read(cluster: ClusterRecord) -> tuple[Recovery | None, Reason | None]:
    """How far the cluster is, and why it could not have nodes the last time; None and None when it is well."""
    stored = cluster.recovery
    if stored is None:
        return None, None
    refusal = stored.get("refusal")
    return Recovery.from_json(stored), Reason.from_json(refusal) if refusal else None


def write(tx: Connection, cluster: ClusterRecord, recovery: Recovery | None, refusal: Reason | None) -> None:
    """Record it, if it is not what is recorded."""
    stored = None
    if recovery is not None:
        stored = recovery.to_json()
        if refusal is not None:
            stored["refusal"] = refusal.to_json()
    if stored != cluster.recovery:
        clusters.set_recovery(tx, cluster.key, stored)


def refused(tx: Connection, cluster: ClusterRecord, reason: Reason, now: int, policy: ReplacementPolicy) -> None:
    """The engine could not provide nodes: they are asked for again after a pause."""
    former, _ = read(cluster)
    write(tx, cluster, Recovery.after_failure(former, now, policy), reason)


def outlook(cluster: ClusterRecord, recovery: Recovery, refusal: Reason | None, policy: ReplacementPolicy) -> Reason:
    """What is done about the nodes that fail, and when."""
    what = "Nodes that could not be had are asked for again" if refusal else "Nodes that cannot be used are replaced"
    mend = f"Mend the cause, then resize cluster {cluster.name} (to the size that it has, too): that tries at once."
    details = {"failures": str(recovery.failures)}
    if recovery.next_try is None:
        text = (
            f"The nodes of cluster {cluster.name} failed {recovery.failures} times and are not replaced again. {mend}"
        )
        return Reason(ReasonCode.NODE_REPLACEMENT_GIVEN_UP, text, details)
    when = format_time(recovery.next_try)
    count = f"try {recovery.failures}" if policy.tries is None else f"try {recovery.failures} of {policy.tries}"
    return Reason(
        ReasonCode.NODE_REPLACEMENT_SCHEDULED, f"{what} at {when} ({count}). {mend}", {**details, "nextTry": when}
    )
