"""Users: they write what the API writes, in one transaction each, and keep a list of what was accepted.

To add something that users do: a method that takes nothing, and a line in ``ACTIONS``.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from tests.simulation.chance import Profile
from tests.simulation.rules import SUBMITTERS, Administrator
from tests.simulation.story import Story
from tests.simulation.together import Array, Together
from tests.support.factories import SUBSCRIPTION, WORKSPACE_KEY
from trainshed.api.dependencies import Found
from trainshed.control.settings import ControlSettings
from trainshed.resources.conditions import Condition
from trainshed.resources.lifecycle import (
    JOB,
    AllocationEvent,
    AllocationState,
    JobState,
    OperationState,
    OperationVerb,
    ProvisioningEvent,
    ProvisioningState,
)
from trainshed.resources.quotas import promised_nodes
from trainshed.resources.vmsizes import find_size
from trainshed.store import clusters, experiments, jobs, operations
from trainshed.store.errors import or_none
from trainshed.store.records import ClusterRecord, ExperimentRecord, JobRecord, NewJob, OperationRecord
from trainshed.store.usages import Region, of_region

_REGION = Region.of(SUBSCRIPTION, "local")
_OPTIONS = ("requeue", "terminate", "waitforjobcompletion")


@dataclass
class Accepted:
    """A job that the service said it has."""

    id: int
    uid: str
    key: str
    name: str
    experiment: str
    #: Somebody asked for its deletion, or for that of its experiment.
    deleted: bool = False
    #: uids of other jobs, and until when it waits for them.
    waits_for: tuple[tuple[str, Condition], ...] = ()
    array: Array | None = None


class User(Together, Administrator):
    """Everybody who uses the service."""

    def __init__(
        self,
        profile: Profile,
        roll: random.Random,
        story: Story,
        settings: ControlSettings,
        write: Callable[[Callable[[Connection], Any]], Any],
    ) -> None:
        self._profile = profile
        self._roll = roll
        self._story = story
        self._settings = settings
        self._write = write
        self._number = 0
        #: By uid.
        self.accepted: dict[str, Accepted] = {}
        self.arrays: list[Array] = []
        #: Jobs that are still to be submitted.
        self.jobs_left = profile.jobs
        self.clusters_left = profile.clusters

    def begin(self) -> None:
        """There is a cluster, and something to run on it; in some workspaces rules, too."""
        if self._profile.together and self._roll.random() < 0.5:
            self.set_rules()
        self.create_cluster()
        self.submit()

    def act(self) -> bool:
        """Do something; whether it concerns the queue alone (the API then wakes only that)."""
        actions = ACTIONS + TOGETHER if self._profile.together else ACTIONS
        (action,) = self._roll.choices(
            [getattr(self, name) for name, _ in actions], weights=[weight for _, weight in actions]
        )
        action()
        return action.__name__ in QUEUE_ONLY

    def create_cluster(self) -> None:
        """With a fixed size or one that follows the queue, refused beyond the quota as by the API."""
        if self.clusters_left <= 0:
            return
        self.clusters_left -= 1
        size, scale = self._roll.choice(("STANDARD_D1", "STANDARD_D1", "STANDARD_D2")), self._scale()
        rules = self._queue_rules()

        def create(tx: Connection) -> None:
            promised = max(promised_nodes(scale), scale.get("autoScale", {}).get("initialNodeCount", 0))
            if self._beyond_quota(tx, None, size, promised):
                return
            name, now = self._name("c"), self._settings.clock()
            key = f"{WORKSPACE_KEY}/{name}"
            clusters.insert(
                tx,
                ClusterRecord(
                    key=key,
                    workspace_key=WORKSPACE_KEY,
                    name=name,
                    uid=self._uid(),
                    pool=clusters.next_pool(tx),
                    engine="local",
                    vm_size=size,
                    definition={"vmSize": size, "vmPriority": "dedicated", **rules},
                    scale=scale,
                    state=ProvisioningState.CREATING,
                    state_at=now,
                    allocation=AllocationState.RESIZING,
                    allocation_at=now,
                    errors=(),
                    created_at=now,
                    modified_at=now,
                ),
            )
            self._operation(tx, OperationVerb.CREATE_CLUSTER, key)
            self._story.tell("user: cluster", name, size, scale)

        self._write(create)

    def resize(self) -> None:
        """PATCH of the scale settings."""
        scale = self._scale()

        def change(tx: Connection) -> None:
            cluster = self._cluster(tx)
            if cluster is None or self._beyond_quota(tx, cluster, cluster.vm_size, promised_nodes(scale)):
                return
            now = self._settings.clock()
            clusters.set_scale(tx, cluster.key, scale, now)
            if cluster.allocation is AllocationState.STEADY and scale != cluster.scale:
                clusters.apply_allocation(tx, cluster.key, AllocationEvent.RESIZE_STARTED, now)
            self._story.tell("user: resize", cluster.name, scale)

        self._write(change)

    def delete_cluster(self) -> None:
        """DELETE of a cluster; another one may be made afterwards."""

        def delete(tx: Connection) -> None:
            cluster = self._cluster(tx)
            if cluster is not None:
                self._delete_cluster(tx, cluster)
                self.clusters_left += 1

        self._write(delete)

    def submit(self) -> None:
        """PUT of a job."""
        if self.jobs_left <= 0:
            return
        self.jobs_left -= 1

        def create(tx: Connection) -> None:
            cluster = self._cluster(tx)
            if cluster is None:
                return
            experiment = self._experiment(tx)
            others = self._others(tx, experiment)
            if others is None:
                return
            new = self._new_job(cluster, experiment)
            self._story.tell("user: job", new.name, cluster.name, f"{new.node_count} nodes", new.priority)
            self._accept(tx, new, experiment, others)
            self._operation(tx, OperationVerb.CREATE_JOB, new.key, done=True)

        self._write(create)

    def _accept(
        self, tx: Connection, new: NewJob, experiment: str, others: Sequence[Found], array: Array | None = None
    ) -> None:
        """The job is stored, and waits for the others."""
        record = jobs.insert(tx, new)
        waits_for = self._wait(tx, record.id, others)
        for on, condition in waits_for:
            self._story.tell("  waits", new.name, condition, self.accepted[on].name)
        self.accepted[new.uid] = Accepted(
            record.id, new.uid, new.key, new.name, experiment, waits_for=waits_for, array=array
        )
        if array is not None:
            array.members.append(new.uid)

    def terminate(self) -> None:
        """POST terminate."""

        def end(tx: Connection) -> None:
            record = self._job(tx)
            if record is not None and record.execution not in JOB.final:
                self._terminate(tx, record)

        self._write(end)

    def delete_job(self) -> None:
        """DELETE of a job."""

        def delete(tx: Connection) -> None:
            record = self._job(tx)
            if record is None:
                return
            if record.state is not ProvisioningState.DELETING:
                jobs.request_deletion(tx, record.id, self._settings.clock())
            self._operation(tx, OperationVerb.DELETE_JOB, record.key)
            self.accepted[record.uid].deleted = True
            self._story.tell("user: delete", record.name)

        self._write(delete)

    def delete_experiment(self) -> None:
        """DELETE of an experiment, and with it of its jobs."""
        experiment = self._roll.choice(_EXPERIMENTS)

        def delete(tx: Connection) -> None:
            key = f"{WORKSPACE_KEY}/{experiment}"
            found = or_none(experiments.get, tx, key)
            if found is None:
                return
            if found.state is not ProvisioningState.DELETING:
                experiments.apply(tx, key, ProvisioningEvent.DELETE_REQUESTED, self._settings.clock())
            self._operation(tx, OperationVerb.DELETE_EXPERIMENT, key)
            for job in self.accepted.values():
                job.deleted = job.deleted or job.experiment == experiment
            self._story.tell("user: delete", experiment)

        self._write(delete)

    def terminate_rest(self) -> None:
        """At the end: whatever still waits is not wanted any more."""

        def end(tx: Connection) -> None:
            for job in self.accepted.values():
                record = or_none(jobs.get_by_uid, tx, job.uid)
                if record is not None and record.execution not in JOB.final:
                    self._terminate(tx, record)

        self._write(end)

    def delete_clusters(self) -> None:
        """At the end: no cluster is wanted any more."""

        def delete(tx: Connection) -> None:
            for cluster in clusters.all(tx):
                self._delete_cluster(tx, cluster)

        self._write(delete)

    def _terminate(self, tx: Connection, record: JobRecord) -> None:
        if record.execution is not JobState.TERMINATING:
            jobs.request_termination(tx, record.id, self._settings.clock())
        self._operation(tx, OperationVerb.TERMINATE_JOB, record.key)
        self._story.tell("user: terminate", record.name)

    def _delete_cluster(self, tx: Connection, cluster: ClusterRecord) -> None:
        if cluster.state is not ProvisioningState.DELETING:
            clusters.apply_provisioning(tx, cluster.key, ProvisioningEvent.DELETE_REQUESTED, self._settings.clock())
        self._operation(tx, OperationVerb.DELETE_CLUSTER, cluster.key)
        self._story.tell("user: delete", cluster.name)

    def _scale(self) -> dict[str, Any]:
        if self._roll.random() < 0.5:
            option = self._roll.choice(_OPTIONS)
            return {"manual": {"targetNodeCount": self._roll.randint(0, 5), "nodeDeallocationOption": option}}
        low = self._roll.choice((0, 0, 1, 2))
        return {
            "autoScale": {
                "minimumNodeCount": low,
                "maximumNodeCount": low + self._roll.randint(0, 5),
                "initialNodeCount": self._roll.choice((0, low)),
                "idleTimeBeforeScaleDown": self._roll.choice(("PT1S", "PT5S", "PT20S")),
            }
        }

    def _queue_rules(self) -> dict[str, Any]:
        """Whether jobs may pass one another, and take nodes from one another."""
        rules: dict[str, Any] = {}
        if self._roll.random() < 0.3:
            rules["backfill"] = False
        if self._roll.random() < 0.6:
            rules["preemption"] = {"enabled": True, "maxGracePeriod": self._roll.choice(("PT0S", "PT2S", "PT10S"))}
        return rules

    def _new_job(self, cluster: ClusterRecord, experiment: str, most: int = 8) -> NewJob:
        name, uid, nodes = self._name("j"), self._uid(), min(most, self._roll.choice((1, 1, 1, 2, 2, 3, 4, 8)))
        definition: dict[str, Any] = {
            "nodeCount": nodes,
            "customToolkitSettings": {"commandLine": "true"},
            "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/logs",
        }
        if self._roll.random() < 0.4:
            definition["retryPolicy"] = {
                "maxRetries": self._roll.randint(0, 3),
                "exitCodes": self._roll.choice((None, [1], [2, 3])),
                "backoff": {
                    "initialDelay": self._roll.choice(("PT0S", "PT1S", "PT4S")),
                    "multiplier": 2,
                    "maxDelay": "PT10S",
                },
            }
        key = f"{WORKSPACE_KEY}/{experiment}/{name}"
        return NewJob(
            key=key,
            experiment_key=f"{WORKSPACE_KEY}/{experiment}",
            workspace_key=WORKSPACE_KEY,
            cluster_key=cluster.key,
            cluster_uid=cluster.uid,
            name=name,
            uid=uid,
            segment=f"{SUBSCRIPTION}/trainshed/workspaces/default/experiments/{experiment}/jobs/{name}/{uid}",
            priority=self._roll.choice((0, 0, 1000, -1000)),
            node_count=nodes,
            tool_type="custom",
            definition=definition,
            wall_clock_seconds=self._roll.choice((2.0, 30.0, 3600.0)),
            created_at=self._settings.clock(),
            submitted_by=self._roll.choice(SUBMITTERS),
        )

    def _experiment(self, tx: Connection) -> str:
        """One that takes jobs, made when there is none."""
        first = self._roll.choice(_EXPERIMENTS)
        for name in (first, *_EXPERIMENTS, self._name("exp")):
            key = f"{WORKSPACE_KEY}/{name}"
            found = or_none(experiments.get, tx, key)
            if found is None:
                now = self._settings.clock()
                experiments.insert(
                    tx, ExperimentRecord(key, WORKSPACE_KEY, name, ProvisioningState.SUCCEEDED, now, now, now)
                )
                return name
            if found.state is ProvisioningState.SUCCEEDED:
                return name
        raise AssertionError("a new name is always free")

    def _beyond_quota(self, tx: Connection, cluster: ClusterRecord | None, vm_size: str, wanted: int) -> bool:
        """As ``api.quota`` decides."""
        uses = of_region(tx, _REGION)
        own = next((use for use in uses if cluster is not None and use.key == cluster.key), None)
        if own is not None and wanted <= own.reserved:
            return False
        size = find_size(vm_size, {})
        assert size is not None
        limits = self._settings.quotas.limits(SUBSCRIPTION)
        others = [use for use in uses if own is None or use.key != own.key]
        return limits.cores_excess(others, size, "dedicated", wanted, {}) is not None

    def _cluster(self, tx: Connection) -> ClusterRecord | None:
        there = [found for found in clusters.all(tx) if found.state is not ProvisioningState.DELETING]
        return self._roll.choice(there) if there else None

    def _job(self, tx: Connection) -> JobRecord | None:
        """One that was accepted, the newer the likelier."""
        if not self.accepted:
            return None
        known = list(self.accepted.values())
        chosen = known[max(self._roll.randrange(len(known)), self._roll.randrange(len(known)))]
        return or_none(jobs.get_by_uid, tx, chosen.uid)

    def _operation(self, tx: Connection, verb: OperationVerb, key: str, *, done: bool = False) -> None:
        now = self._settings.clock()
        status = OperationState.SUCCEEDED if done else OperationState.IN_PROGRESS
        ended = now if done else None
        operations.insert(tx, OperationRecord(self._uid(), SUBSCRIPTION, "local", key, verb, key, status, now, ended))

    def _name(self, kind: str) -> str:
        self._number += 1
        return f"{kind}{self._number}"

    def _uid(self) -> str:
        return str(uuid.UUID(int=self._roll.getrandbits(128), version=4))


_EXPERIMENTS = ("exp", "exp2")

#: What users do, and how often beside the others.
ACTIONS: tuple[tuple[str, int], ...] = (
    ("submit", 10),
    ("create_cluster", 3),
    ("resize", 3),
    ("terminate", 2),
    ("delete_job", 1),
    ("delete_cluster", 1),
    ("delete_experiment", 1),
)
#: In half of the seeds, beside those.
TOGETHER: tuple[tuple[str, int], ...] = (("array", 4), ("terminate_array", 1), ("delete_array", 1), ("set_rules", 2))
QUEUE_ONLY = frozenset({"submit", "array", "terminate", "terminate_array", "delete_job", "delete_array"})
