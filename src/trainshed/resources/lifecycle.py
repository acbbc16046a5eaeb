"""Lifecycles as tables of allowed transitions.

Each table maps ``(state, event)`` to the next state. ``Lifecycle.after`` is the only way to find a next state; the
store applies it and the database refuses every pair that is not in ``Lifecycle.pairs`` (see ``trainshed.store``).
Sources: rest-contract section 7 (job, cluster), behaviour section 9 (execution states), DESIGN "Lifecycles".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

S = TypeVar("S", bound=StrEnum)
E = TypeVar("E", bound=StrEnum)


class ImpossibleTransition(Exception):
    """The event does not apply in this state."""


@dataclass(frozen=True)
class Lifecycle(Generic[S, E]):
    """A state machine as data: where things start, which states are final, and the allowed steps."""

    noun: str
    initial: S
    final: frozenset[S]
    table: Mapping[tuple[S, E], S]

    def after(self, state: S, event: E) -> S:
        """The state that follows. Raises ImpossibleTransition when the event does not apply."""
        try:
            return self.table[(state, event)]
        except KeyError:
            raise ImpossibleTransition(f"a {self.noun} that is {state.value} cannot take {event.value}") from None

    def allows(self, state: S, event: E) -> bool:
        """Whether the event applies in this state."""
        return (state, event) in self.table

    @property
    def pairs(self) -> frozenset[tuple[str, str]]:
        """Every allowed change of state as ``(from, to)`` values; what the database's triggers enforce."""
        return frozenset((a.value, b.value) for (a, _), b in self.table.items() if a is not b)


class ProvisioningState(StrEnum):
    """Whether the record of a resource exists yet or still (all resource types)."""

    CREATING = "creating"
    UPDATING = "updating"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    DELETING = "deleting"


class ProvisioningEvent(StrEnum):
    PROVISIONED = "provisioned"
    PROVISIONING_FAILED = "provisioning-failed"
    DELETE_REQUESTED = "delete-requested"


PROVISIONING: Lifecycle[ProvisioningState, ProvisioningEvent] = Lifecycle(
    noun="resource",
    initial=ProvisioningState.CREATING,
    final=frozenset(),
    table={
        (ProvisioningState.CREATING, ProvisioningEvent.PROVISIONED): ProvisioningState.SUCCEEDED,
        (ProvisioningState.CREATING, ProvisioningEvent.PROVISIONING_FAILED): ProvisioningState.FAILED,
        (ProvisioningState.CREATING, ProvisioningEvent.DELETE_REQUESTED): ProvisioningState.DELETING,
        (ProvisioningState.SUCCEEDED, ProvisioningEvent.DELETE_REQUESTED): ProvisioningState.DELETING,
        (ProvisioningState.FAILED, ProvisioningEvent.DELETE_REQUESTED): ProvisioningState.DELETING,
    },
)


class AllocationState(StrEnum):
    """Whether nodes are being added to or removed from a cluster."""

    STEADY = "steady"
    RESIZING = "resizing"


class AllocationEvent(StrEnum):
    RESIZE_STARTED = "resize-started"
    RESIZE_FINISHED = "resize-finished"


ALLOCATION: Lifecycle[AllocationState, AllocationEvent] = Lifecycle(
    noun="cluster",
    initial=AllocationState.RESIZING,
    final=frozenset(),
    table={
        (AllocationState.STEADY, AllocationEvent.RESIZE_STARTED): AllocationState.RESIZING,
        (AllocationState.RESIZING, AllocationEvent.RESIZE_FINISHED): AllocationState.STEADY,
    },
)


class NodeState(StrEnum):
    """The life of a node. *Idle* and *running* of the contract are READY without and with a live attempt."""

    PREPARING = "preparing"
    READY = "ready"
    UNUSABLE = "unusable"
    LEAVING = "leaving"
    GONE = "gone"


class NodeEvent(StrEnum):
    PREPARED = "prepared"
    SETUP_FAILED = "setup-failed"
    TAKEN_OUT = "taken-out"
    REBOOTED = "rebooted"
    REMOVAL_REQUESTED = "removal-requested"
    REMOVED = "removed"


NODE: Lifecycle[NodeState, NodeEvent] = Lifecycle(
    noun="node",
    initial=NodeState.PREPARING,
    final=frozenset({NodeState.GONE}),
    table={
        (NodeState.PREPARING, NodeEvent.PREPARED): NodeState.READY,
        (NodeState.PREPARING, NodeEvent.SETUP_FAILED): NodeState.UNUSABLE,
        (NodeState.READY, NodeEvent.SETUP_FAILED): NodeState.UNUSABLE,
        # Attempts die there one after another: it is to be replaced.
        (NodeState.PREPARING, NodeEvent.TAKEN_OUT): NodeState.UNUSABLE,
        (NodeState.READY, NodeEvent.TAKEN_OUT): NodeState.UNUSABLE,
        (NodeState.READY, NodeEvent.REBOOTED): NodeState.PREPARING,
        (NodeState.UNUSABLE, NodeEvent.REBOOTED): NodeState.PREPARING,
        (NodeState.PREPARING, NodeEvent.REMOVAL_REQUESTED): NodeState.LEAVING,
        (NodeState.READY, NodeEvent.REMOVAL_REQUESTED): NodeState.LEAVING,
        (NodeState.UNUSABLE, NodeEvent.REMOVAL_REQUESTED): NodeState.LEAVING,
        (NodeState.LEAVING, NodeEvent.REMOVED): NodeState.GONE,
    },
)


class JobState(StrEnum):
    """executionState of the contract."""

    QUEUED = "queued"
    RUNNING = "running"
    TERMINATING = "terminating"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class JobEvent(StrEnum):
    PLACED = "placed"
    #: An engine that queues by itself has it now; for users it is still queued.
    HANDED_OVER = "handed-over"
    REQUEUED = "requeued"
    TERMINATE_REQUESTED = "terminate-requested"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


JOB: Lifecycle[JobState, JobEvent] = Lifecycle(
    noun="job",
    initial=JobState.QUEUED,
    final=frozenset({JobState.SUCCEEDED, JobState.FAILED}),
    table={
        (JobState.QUEUED, JobEvent.PLACED): JobState.RUNNING,
        (JobState.QUEUED, JobEvent.HANDED_OVER): JobState.QUEUED,
        # The engine that it was handed over to does not have it any more.
        (JobState.QUEUED, JobEvent.REQUEUED): JobState.QUEUED,
        (JobState.QUEUED, JobEvent.TERMINATE_REQUESTED): JobState.TERMINATING,
        (JobState.QUEUED, JobEvent.FAILED): JobState.FAILED,
        (JobState.RUNNING, JobEvent.REQUEUED): JobState.QUEUED,
        (JobState.RUNNING, JobEvent.TERMINATE_REQUESTED): JobState.TERMINATING,
        (JobState.RUNNING, JobEvent.SUCCEEDED): JobState.SUCCEEDED,
        (JobState.RUNNING, JobEvent.FAILED): JobState.FAILED,
        # A job that had succeeded before the stop took hold did succeed.
        (JobState.TERMINATING, JobEvent.SUCCEEDED): JobState.SUCCEEDED,
        (JobState.TERMINATING, JobEvent.FAILED): JobState.FAILED,
    },
)


class AttemptState(StrEnum):
    """One run of a job. PLACED is recorded before anything is acted upon."""

    PLACED = "placed"
    RUNNING = "running"
    STOPPING = "stopping"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"
    LOST = "lost"


class AttemptEvent(StrEnum):
    STARTED = "started"
    STOP_REQUESTED = "stop-requested"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"
    LOST = "lost"


_LIVE = (AttemptState.PLACED, AttemptState.RUNNING, AttemptState.STOPPING)

ATTEMPT: Lifecycle[AttemptState, AttemptEvent] = Lifecycle(
    noun="attempt",
    initial=AttemptState.PLACED,
    final=frozenset({AttemptState.SUCCEEDED, AttemptState.FAILED, AttemptState.STOPPED, AttemptState.LOST}),
    table={
        (AttemptState.PLACED, AttemptEvent.STARTED): AttemptState.RUNNING,
        (AttemptState.PLACED, AttemptEvent.STOP_REQUESTED): AttemptState.STOPPING,
        (AttemptState.RUNNING, AttemptEvent.STOP_REQUESTED): AttemptState.STOPPING,
        **{(state, AttemptEvent.SUCCEEDED): AttemptState.SUCCEEDED for state in _LIVE},
        **{(state, AttemptEvent.FAILED): AttemptState.FAILED for state in _LIVE},
        **{(state, AttemptEvent.STOPPED): AttemptState.STOPPED for state in _LIVE},
        **{(state, AttemptEvent.LOST): AttemptState.LOST for state in _LIVE},
    },
)


class OperationState(StrEnum):
    """status of a long-running operation; the only states with a capital on the wire (rest-contract section 3)."""

    IN_PROGRESS = "InProgress"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class OperationVerb(StrEnum):
    """What a long-running operation does, and to which kind: a cluster and an experiment may have the same key."""

    CREATE_CLUSTER = "create-cluster"
    CREATE_JOB = "create-job"
    TERMINATE_JOB = "terminate-job"
    DELETE_JOB = "delete-job"
    DELETE_CLUSTER = "delete-cluster"
    DELETE_EXPERIMENT = "delete-experiment"
    DELETE_WORKSPACE = "delete-workspace"
    CREATE_FILE_SERVER = "create-file-server"
    DELETE_FILE_SERVER = "delete-file-server"
    DELETE_GROUP = "delete-group"


class OperationEvent(StrEnum):
    SUCCEEDED = "succeeded"
    FAILED = "failed"


OPERATION: Lifecycle[OperationState, OperationEvent] = Lifecycle(
    noun="operation",
    initial=OperationState.IN_PROGRESS,
    final=frozenset({OperationState.SUCCEEDED, OperationState.FAILED}),
    table={
        (OperationState.IN_PROGRESS, OperationEvent.SUCCEEDED): OperationState.SUCCEEDED,
        (OperationState.IN_PROGRESS, OperationEvent.FAILED): OperationState.FAILED,
    },
)
