"""Rows as values. Times are Unix milliseconds (UTC), the contract's resolution; ``key``s are lower-cased paths."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from trainshed.resources.lifecycle import (
    AllocationState,
    AttemptState,
    JobState,
    NodeState,
    OperationState,
    OperationVerb,
    ProvisioningState,
)
from trainshed.resources.preemption import StopWarning
from trainshed.resources.reasons import Reason


@dataclass(frozen=True, slots=True)
class WorkspaceRecord:
    """``key`` = ``{subscription}/{group}/{workspace}``."""

    key: str
    subscription: str
    resource_group: str
    name: str
    location: str
    tags: dict[str, str]
    state: ProvisioningState
    state_at: int
    created_at: int
    modified_at: int
    #: Which unprivileged user of the configured range its jobs run as; ``workspaces.insert`` gives it.
    user_number: int = 0
    #: Its schedulingRules in the contract's JSON form; empty without any.
    scheduling: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ResourceGroupRecord:
    """``key`` = ``{subscription}/{group}``."""

    key: str
    subscription: str
    name: str
    location: str
    tags: dict[str, str]
    state: ProvisioningState
    state_at: int
    created_at: int
    modified_at: int


@dataclass(frozen=True, slots=True)
class StorageAccountRecord:
    """An embedded storage account. ``name`` is in lower case; its keys are among the secrets of ``uid``."""

    name: str
    uid: str
    #: Key of its resource group.
    group_key: str
    subscription: str
    resource_group: str
    location: str
    kind: str
    sku: str
    tags: dict[str, str]
    created_at: int
    modified_at: int


@dataclass(frozen=True, slots=True)
class FileServerRecord:
    """``key`` = ``{workspace key}/{file server}``. ``definition`` = contract properties with defaults, no secrets."""

    key: str
    workspace_key: str
    name: str
    uid: str
    definition: dict[str, Any]
    #: mountSettings of the contract, once it has an address.
    mount_settings: dict[str, str] | None
    state: ProvisioningState
    state_at: int
    created_at: int
    modified_at: int


@dataclass(frozen=True, slots=True)
class ExperimentRecord:
    """``key`` = ``{workspace key}/{experiment}``."""

    key: str
    workspace_key: str
    name: str
    state: ProvisioningState
    state_at: int
    created_at: int
    modified_at: int


@dataclass(frozen=True, slots=True)
class ClusterRecord:
    """``key`` = ``{workspace key}/{cluster}``. ``definition`` = contract properties with defaults, without secrets."""

    key: str
    workspace_key: str
    name: str
    uid: str
    pool: int
    engine: str
    vm_size: str
    definition: dict[str, Any]
    #: scaleSettings now in force, contract form.
    scale: dict[str, Any]
    state: ProvisioningState
    state_at: int
    allocation: AllocationState
    allocation_at: int
    errors: tuple[Reason, ...]
    created_at: int
    modified_at: int
    #: The next node's ordinal: node ids are never used twice.
    next_ordinal: int = 0
    #: How far it is with nodes that failed (``control.recovering``); None when it is well.
    recovery: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class NodeLoss:
    """An attempt that was lost on a node."""

    attempt_id: str
    job_id: int
    job: str
    number: int


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """A node. ``attempt_id`` is the live attempt that holds it, if any (so READY is idle or running)."""

    id: str
    cluster_uid: str
    ordinal: int
    state: NodeState
    state_at: int
    boot: int
    host_name: str
    address: str
    ssh_port: int | None
    reason: Reason | None
    attempt_id: str | None = None
    #: Attempts that were lost on it one after another, the latest last; none since one came to an end of its own.
    losses: tuple[NodeLoss, ...] = ()


@dataclass(frozen=True, slots=True)
class JobRecord:
    """``key`` = ``{experiment key}/{job}``. ``id`` grows in order of submission."""

    id: int
    key: str
    experiment_key: str
    workspace_key: str
    cluster_key: str
    #: uid of the cluster at submission, if it existed: a new cluster of the same name is another cluster.
    cluster_uid: str
    name: str
    uid: str
    segment: str
    #: 1000 high, 0 normal, -1000 low.
    priority: int
    node_count: int
    tool_type: str
    definition: dict[str, Any]
    wall_clock_seconds: float | None
    state: ProvisioningState
    state_at: int
    execution: JobState
    execution_at: int
    created_at: int
    modified_at: int
    started_at: int | None = None
    ended_at: int | None = None
    exit_code: int | None = None
    errors: tuple[Reason, ...] = ()
    #: Attempts so far, and how many of them were lost to infrastructure (not the job's doing).
    attempts: int = 0
    lost_attempts: int = 0
    #: Why it was queued again, if it was.
    requeue_reason: Reason | None = None
    code_snapshot: str | None = None
    #: Own failures that the retry policy forgave, and before when (Unix ms) it is not tried again.
    retries: int = 0
    not_before: int | None = None
    #: Object id of the principal that submitted it.
    submitted_by: str | None = None
    #: How often it had to give up its nodes to others: it then goes before those of its class that have not.
    preemptions: int = 0
    #: 1 while it waits because it was pre-empted.
    returned: int = 0
    #: How many conditions on other jobs are not met yet, and its turn if it waits for that: until 0 it is in no queue.
    blocked: int = 0
    #: The array that it is of, and whether (1) it waits until fewer of its jobs run.
    array_id: int | None = None
    waits_turn: int = 0
    #: 1 while an engine that queues by itself has it and it has not begun.
    handed_over: int = 0

    @property
    def begun(self) -> int:
        """How many attempts have begun."""
        return self.attempts - self.handed_over


@dataclass(frozen=True, slots=True)
class NewJob:
    """What ``jobs.insert`` needs."""

    key: str
    experiment_key: str
    workspace_key: str
    cluster_key: str
    cluster_uid: str
    name: str
    uid: str
    segment: str
    priority: int
    node_count: int
    tool_type: str
    definition: dict[str, Any]
    wall_clock_seconds: float | None
    created_at: int
    code_snapshot: str | None = None
    submitted_by: str | None = None
    array_id: int | None = None
    waits_turn: int = 0


@dataclass(frozen=True, slots=True)
class JobArrayRecord:
    """Jobs that were submitted together. ``key`` = ``{experiment key}/{array}``; the jobs are ``{array}-{index}``."""

    id: int
    key: str
    experiment_key: str
    name: str
    definition: dict[str, Any]
    max_running: int | None
    created_at: int


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One run of a job. ``node_ids`` in host order, first the master."""

    id: str
    job_id: int
    number: int
    cluster_uid: str
    node_ids: tuple[str, ...]
    state: AttemptState
    state_at: int
    placed_at: int
    ended_at: int | None = None
    exit_code: int | None = None
    reason: Reason | None = None
    #: Why a stop was asked for, and what follows: ``fail`` or ``requeue``.
    stop_reason: Reason | None = None
    after_stop: str | None = None
    #: What its processes get before they are stopped; None: nothing.
    stop_warning: StopWarning | None = None
    #: Of one that was handed over to an engine that queues: why it waits there, until it has begun; and when it began.
    waiting: Reason | None = None
    began_at: int | None = None

    @property
    def handed_over(self) -> bool:
        """Whether an engine that queues by itself has it, or had it."""
        return self.waiting is not None or self.began_at is not None

    @property
    def since(self) -> int:
        """When it got its nodes."""
        return self.placed_at if self.began_at is None else self.began_at


@dataclass(frozen=True, slots=True)
class DependencyRecord:
    """What a job still waits for. ``execution`` and ``attempts`` are the other job's, None once it was deleted."""

    job_id: int
    on_job_id: int
    condition: str
    #: The other job as the user named it.
    on_name: str
    execution: JobState | None
    attempts: int | None


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """The little that the scheduler needs of a queued job."""

    id: int
    key: str
    name: str
    priority: int
    node_count: int
    queued_at: int
    wall_clock_seconds: float | None = None
    workspace_key: str = ""
    experiment_key: str = ""
    submitted_by: str | None = None
    #: Whether it was pre-empted: it goes before others of its priority.
    returned: int = 0


@dataclass(frozen=True, slots=True)
class OperationRecord:
    """A long-running operation."""

    id: str
    subscription: str
    location: str
    #: The internal key that the contract shows: ``{s}${rg}${ws}$...`` (rest-contract section 3).
    resource_id: str
    #: What it does, and the key of the resource that it does it to.
    verb: OperationVerb
    resource_key: str
    status: OperationState
    started_at: int
    ended_at: int | None = None
    error: Reason | None = None


@dataclass(frozen=True, slots=True)
class EventRecord:
    """One entry of the append-only event log."""

    seq: int
    at: int
    #: A value of ``events.Kind``.
    kind: str
    #: Key of the resource (jobs and clusters: so that a job's events are listed by its key).
    resource_key: str
    #: The lifecycle event's value, for example ``placed``.
    event: str
    from_state: str | None
    to_state: str | None
    reason: Reason | None = None
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PrincipalRecord:
    """Somebody who may call. ``id`` is the object id, a GUID."""

    id: str
    #: ``User`` or ``ServicePrincipal``.
    kind: str
    name: str
    display_name: str
    #: Who vouches for it and under what subject, for those of an OpenID issuer.
    issuer: str | None
    subject: str | None
    disabled_at: int | None
    created_at: int


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """A personal access token. Without ``scope_key`` and ``role`` it allows what its owner may."""

    id: str
    principal_id: str
    name: str
    digest: bytes = field(repr=False)
    scope_key: str | None
    role: str | None
    created_at: int
    expires_at: int
    revoked_at: int | None = None
    last_used_at: int | None = None


@dataclass(frozen=True, slots=True)
class RoleAssignmentRecord:
    """A principal holds a role at a scope and below. ``scope`` is the path as given, ``scope_key`` what is compared."""

    id: str
    scope_key: str
    scope: str
    principal_id: str
    role: str
    created_at: int
    #: Object id of whoever assigned it.
    created_by: str


@dataclass(frozen=True, slots=True)
class NewAudit:
    """What ``audit.append`` needs. ``status`` and ``code`` are what a refused or failed caller was answered."""

    at: int
    principal_id: str | None
    caller: str
    token_id: str | None
    action: str
    resource: str
    outcome: str
    source: str
    request_id: str
    status: int | None = None
    code: str | None = None


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One entry of the audit log."""

    seq: int
    at: int
    principal_id: str | None
    caller: str
    token_id: str | None
    action: str
    resource: str
    outcome: str
    status: int | None
    code: str | None
    source: str
    request_id: str
