"""Why something waits, failed or was stopped: a stable code, a sentence, and details.

Codes of the original contract (``JobFailed``, ``JobPreparationFailed``, ``JobTerminated``, ``FailedStartingContainer``,
``AZFMountError``, ``BFSMountError``) keep their names and messages; the others are Trainshed's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class ReasonCode(StrEnum):
    """Every reason that a person can meet. The values are an interface: they never change."""

    # How a job ended (executionInfo.errors[].code).
    JOB_FAILED = "JobFailed"
    JOB_PREPARATION_FAILED = "JobPreparationFailed"
    JOB_TERMINATED = "JobTerminated"
    JOB_WALL_CLOCK_EXCEEDED = "JobMaxWallClockTimeExceeded"
    JOB_DIRECTORY_ERROR = "JobDirectoryError"
    JOB_LAUNCH_FAILED = "JobLaunchFailed"
    JOB_RANK_FAILED = "JobRankFailed"
    JOB_DISK_LIMIT_EXCEEDED = "JobDiskLimitExceeded"
    JOB_CODE_UNAVAILABLE = "JobCodeUnavailable"
    CONTAINER_FAILED = "FailedStartingContainer"
    AZURE_FILE_MOUNT_FAILED = "AZFMountError"
    AZURE_BLOB_MOUNT_FAILED = "BFSMountError"
    VOLUME_MOUNT_FAILED = "VolumeMountError"
    CLUSTER_DELETED = "ClusterDeleted"
    SCALED_DOWN = "NodesDeallocated"
    RETRIES_EXHAUSTED = "RetriesExhausted"
    DEPENDENCY_FAILED = "DependencyFailed"
    SECRET_NOT_FOUND = "SecretNotFound"
    SECRET_UNREADABLE = "SecretUnreadable"

    # Why an attempt was lost or stopped, or failed, and the job queued again.
    JOB_RETRIED = "JobRetried"
    NODE_LOST = "NodeLost"
    NODE_NOT_READY = "NodeNotReady"
    NODE_EVICTED = "NodeEvicted"
    NODE_DAEMON_LOST = "NodeDaemonLost"
    RUNNER_LOST = "RunnerLost"
    ENGINE_STOPPED = "EngineStopped"
    REQUEUED_BY_SCALE_DOWN = "RequeuedByScaleDown"
    PREEMPTED = "Preempted"
    TOO_MANY_LOST_ATTEMPTS = "TooManyLostAttempts"
    JOB_KILLS_NODES = "JobKillsNodes"
    DELETED_BY_USER = "DeletedByUser"

    # Why a queued job waits.
    WAITING_FOR_SCHEDULER = "WaitingForScheduler"
    WAITING_FOR_NODES = "WaitingForNodes"
    WAITING_BEHIND_JOBS = "WaitingBehindJobs"
    WAITING_FOR_RETRY = "WaitingForRetry"
    WAITING_FOR_DEPENDENCIES = "WaitingForDependencies"
    WAITING_FOR_ARRAY = "WaitingForArray"
    WAITING_FOR_RESERVATION = "WaitingForReservation"
    WAITING_FOR_PREEMPTION = "WaitingForPreemption"
    LIMIT_REACHED = "LimitReached"
    BUDGET_SPENT = "BudgetSpent"
    CLUSTER_TOO_SMALL = "ClusterTooSmall"
    CLUSTER_EMPTY = "ClusterEmpty"
    CLUSTER_DRAINING = "ClusterDraining"
    CLUSTER_NOT_FOUND = "ClusterNotFound"
    CLUSTER_BEING_DELETED = "ClusterBeingDeleted"
    NODES_PREPARING = "NodesPreparing"
    NODES_UNUSABLE = "NodesUnusable"
    ENGINE_UNAVAILABLE = "EngineUnavailable"
    NO_ACTIVE_CONTROLLER = "NoActiveController"
    SERVICE_DRAINING = "ServiceDraining"

    # Why a node is not usable, or a cluster is short of nodes.
    NODE_STARTING = "NodeStarting"
    FETCHING_IMAGES = "FetchingImages"
    SETUP_TASK_RUNNING = "SetupTaskRunning"
    SETUP_TASK_FAILED = "SetupTaskFailed"
    ATTEMPTS_DIE_ON_NODE = "AttemptsDieOnNode"
    NODE_KEEPS_DYING = "NodeKeepsDying"
    NODE_REPLACED = "NodeReplaced"
    NODE_REPLACEMENT_SCHEDULED = "NodeReplacementScheduled"
    NODE_REPLACEMENT_GIVEN_UP = "NodeReplacementGivenUp"
    NODE_LEAVING = "NodeLeaving"
    ALLOCATION_FAILED = "AllocationFailed"
    CORE_QUOTA_REACHED = "CoreQuotaReached"

    # Why a file server could not be made.
    FILE_SERVER_FAILED = "FileServerFailed"


@dataclass(frozen=True, slots=True)
class Reason:
    """A stable code, a sentence for a person (what, why, what would change it), and details."""

    code: ReasonCode
    text: str
    details: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As it is stored and sent between processes."""
        return {"code": self.code.value, "text": self.text, "details": dict(self.details)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Reason:
        """Read what ``to_json`` wrote."""
        return cls(ReasonCode(data["code"]), data["text"], dict(data.get("details") or {}))

    def to_batchai_error(self) -> dict[str, Any]:
        """As BatchAIError of the contract: ``{code, message, details:[{name,value}]}``; details absent when none."""
        error: dict[str, Any] = {"code": self.code.value, "message": self.text}
        if self.details:
            error["details"] = [{"name": name, "value": value} for name, value in self.details.items()]
        return error
