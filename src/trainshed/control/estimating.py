"""When the jobs of a cluster's queue start, as far as anybody can say."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import islice

from sqlalchemy import Connection

from trainshed.control import recovering
from trainshed.control.fleet import queues
from trainshed.control.policies import Policies
from trainshed.control.settings import ControlSettings
from trainshed.control.snapshots import gang_of, snapshot_of, waiting_lanes
from trainshed.resources.lifecycle import NodeState
from trainshed.scheduling.estimate import Estimate, PastRun, Runtimes, estimate
from trainshed.scheduling.order import Order, Walk
from trainshed.scheduling.snapshot import Arrival, Owner
from trainshed.scheduling.workload import Site
from trainshed.store import jobs, nodes
from trainshed.store.records import ClusterRecord

#: Jobs of a queue beyond which nobody is told when they start.
FARTHEST = 500
#: Jobs of the past that say how long others take.
PAST_RUNS = 100


def estimates(
    tx: Connection,
    cluster: ClusterRecord,
    settings: ControlSettings,
    wanted: Collection[int],
) -> Mapping[int, Estimate]:
    """For the jobs (by id) of which it can be said: not where the engine queues by itself."""
    if queues(settings.engines, cluster.engine):
        return {}
    now = settings.clock()
    members = nodes.of_cluster(tx, cluster.uid)
    policies = Policies(tx, now, settings.prices)
    rules = policies.of(cluster.workspace_key)
    refused = recovering.read(cluster)[1] is not None
    snapshot = snapshot_of(tx, cluster, members, policies, settings, now, refused=refused)
    lanes = [map(gang_of, lane) for lane in waiting_lanes(tx, cluster, rules, now)]
    walk = Walk(lanes, Order(rules.fair_share, rules.ledger, rules.limits, now))
    queue = list(islice(walk, FARTHEST))
    past = [
        PastRun(Owner(cluster.workspace_key, run.user, run.experiment_key), run.runtime)
        for run in jobs.past_runs(tx, cluster.uid, {gang.owner.experiment for gang in queue}, PAST_RUNS)
    ]
    boot = round(1000 * settings.node_start_seconds)
    preparing = sum(1 for node in members if node.state is NodeState.PREPARING)
    site = Site(
        scale=cluster.scale,
        policy=snapshot.policy,
        ready=sum(1 for node in members if node.state is NodeState.READY),
        arriving=(Arrival(now + boot, preparing),) if preparing else (),
        boot=boot,
        most=snapshot.attainable_nodes,
    )
    return estimate(
        site,
        queue,
        list(snapshot.running),
        wanted,
        Runtimes(past),
        now=now,
        ledger=rules.ledger if rules.by_owner else None,
        limits=rules.limits,
    )
