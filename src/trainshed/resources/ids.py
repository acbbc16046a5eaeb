"""Resource ids: the paths that name resources, their case rules, and the keys that identify them.

An id keeps the names' case as given but is compared without regard to it; the resource group's segment is lower-cased
in ids that the service builds (rest-contract section 1). A *key* is the lower-cased short path that the store uses.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from trainshed.resources import names
from trainshed.resources.errors import INVALID_RESOURCE_ID, InvalidResource

PROVIDER = "Microsoft.BatchAI"


class Kind(StrEnum):
    """The five types of resources. The value is the word used in messages and in error codes."""

    WORKSPACE = "workspace"
    CLUSTER = "cluster"
    FILE_SERVER = "fileServer"
    EXPERIMENT = "experiment"
    JOB = "job"

    @property
    def type(self) -> str:
        """The ``type`` member of the resource (rest-contract section 1; ``fileservers`` in lower case)."""
        return f"{PROVIDER}/{_TYPES[self]}"

    @property
    def not_found_code(self) -> str:
        """For example ``JobNotFound``."""
        return f"{self.value[0].upper()}{self.value[1:]}NotFound"


_TYPES = {
    Kind.WORKSPACE: "workspaces",
    Kind.CLUSTER: "workspaces/clusters",
    Kind.FILE_SERVER: "workspaces/fileservers",
    Kind.EXPERIMENT: "workspaces/experiments",
    Kind.JOB: "workspaces/experiments/jobs",
}
_CHILDREN = {"clusters": Kind.CLUSTER, "fileservers": Kind.FILE_SERVER, "experiments": Kind.EXPERIMENT}


@dataclass(frozen=True, slots=True)
class ResourceId:
    """A parsed id. ``child`` names a cluster, file server or experiment; ``job`` only below an experiment."""

    subscription: str
    resource_group: str
    workspace: str
    kind: Kind = Kind.WORKSPACE
    child: str = ""
    job: str = ""

    @classmethod
    def parse(cls, text: str) -> ResourceId:
        """Read ``/subscriptions/.../workspaces/...``; fixed segments are matched without regard to case.

        The specification's own example writes ``workspace`` for ``workspaces``; both are read.
        Raises InvalidResource (code InvalidResourceId) with the expected shape.
        """
        parts = text.strip().split("/")
        lowered = [part.lower() for part in parts]
        head_matches = (
            len(parts) in (9, 11, 13)
            and lowered[:2] == ["", "subscriptions"]
            and lowered[3] == "resourcegroups"
            and lowered[5:7] == ["providers", PROVIDER.lower()]
            and lowered[7] in ("workspaces", "workspace")
        )
        if not head_matches:
            raise _malformed(text)
        subscription, group, workspace = parts[2], parts[4], parts[8]
        if not (names.is_subscription(subscription) and names.is_group(group) and names.is_name(workspace)):
            raise _malformed(text)
        if len(parts) == 9:
            return cls(subscription, group, workspace)
        kind = _CHILDREN.get(lowered[9])
        if kind is None or not names.is_name(parts[10]):
            raise _malformed(text)
        if len(parts) == 11:
            return cls(subscription, group, workspace, kind, parts[10])
        if kind is not Kind.EXPERIMENT or lowered[11] != "jobs" or not names.is_name(parts[12]):
            raise _malformed(text)
        return cls(subscription, group, workspace, Kind.JOB, parts[10], parts[12])

    def __str__(self) -> str:
        """The id as the service writes it."""
        base = (
            f"/subscriptions/{self.subscription}/resourceGroups/{self.resource_group.lower()}"
            f"/providers/{PROVIDER}/workspaces/{self.workspace}"
        )
        match self.kind:
            case Kind.WORKSPACE:
                return base
            case Kind.CLUSTER:
                return f"{base}/clusters/{self.child}"
            case Kind.FILE_SERVER:
                return f"{base}/fileservers/{self.child}"
            case Kind.EXPERIMENT:
                return f"{base}/experiments/{self.child}"
            case Kind.JOB:
                return f"{base}/experiments/{self.child}/jobs/{self.job}"

    @property
    def name(self) -> str:
        """The resource's own name."""
        return self.job or self.child or self.workspace

    @property
    def key(self) -> str:
        """The key that identifies the resource. Clusters, file servers and experiments have separate tables."""
        base = workspace_key(self.subscription, self.resource_group, self.workspace)
        match self.kind:
            case Kind.WORKSPACE:
                return base
            case Kind.JOB:
                return job_key(experiment_key(base, self.child), self.job)
            case _:
                return f"{base}/{self.child.lower()}"

    @property
    def operation_resource_id(self) -> str:
        """The internal key that operation results show: names joined by ``$`` (rest-contract section 3)."""
        return operation_resource_id(self.subscription, self.resource_group, self.workspace, self.child, self.job)


def workspace_id(subscription: str, resource_group: str, workspace: str) -> str:
    """The id of a workspace."""
    return str(ResourceId(subscription, resource_group, workspace))


def cluster_id(subscription: str, resource_group: str, workspace: str, cluster: str) -> str:
    """The id of a cluster."""
    return str(ResourceId(subscription, resource_group, workspace, Kind.CLUSTER, cluster))


def file_server_id(subscription: str, resource_group: str, workspace: str, file_server: str) -> str:
    """The id of a file server (``fileservers`` in lower case, as the original)."""
    return str(ResourceId(subscription, resource_group, workspace, Kind.FILE_SERVER, file_server))


def experiment_id(subscription: str, resource_group: str, workspace: str, experiment: str) -> str:
    """The id of an experiment."""
    return str(ResourceId(subscription, resource_group, workspace, Kind.EXPERIMENT, experiment))


def job_id(subscription: str, resource_group: str, workspace: str, experiment: str, job: str) -> str:
    """The id of a job."""
    return str(ResourceId(subscription, resource_group, workspace, Kind.JOB, experiment, job))


def workspace_key(subscription: str, resource_group: str, workspace: str) -> str:
    """``{subscription}/{group}/{workspace}`` in lower case."""
    return f"{subscription}/{resource_group}/{workspace}".lower()


def resource_group_key(subscription: str, resource_group: str) -> str:
    """``{subscription}/{group}`` in lower case."""
    return f"{subscription}/{resource_group}".lower()


def file_server_key(workspace: str, file_server: str) -> str:
    """``{workspace key}/{file server}`` in lower case."""
    return f"{workspace}/{file_server}".lower()


def cluster_key(workspace: str, cluster: str) -> str:
    """``{workspace key}/{cluster}`` in lower case."""
    return f"{workspace}/{cluster}".lower()


def experiment_key(workspace: str, experiment: str) -> str:
    """``{workspace key}/{experiment}`` in lower case."""
    return f"{workspace}/{experiment}".lower()


def job_key(experiment: str, job: str) -> str:
    """``{experiment key}/{job}`` in lower case."""
    return f"{experiment}/{job}".lower()


def cluster_key_of(arm_id: str) -> str:
    """The key of the cluster that an id names. Raises InvalidResource when it isn't a cluster's id."""
    return parse_cluster_id(arm_id).key


def parse_cluster_id(arm_id: str) -> ResourceId:
    """Read the id of a cluster. Raises InvalidResource when it is not one."""
    parsed = ResourceId.parse(arm_id)
    if parsed.kind is not Kind.CLUSTER:
        shown = _shortened(arm_id)
        message = f"'{shown}' names no cluster but another resource ({parsed.kind}). Expected {_SHAPE}/clusters/{{c}}."
        raise InvalidResource.of(INVALID_RESOURCE_ID, message, "id")
    return parsed


def operation_resource_id(subscription: str, resource_group: str, workspace: str, *names: str) -> str:
    """``{s}${rg}${workspace}`` and, where given, the names below it, joined by ``$``; the group in lower case."""
    return "$".join([subscription, resource_group.lower(), workspace, *(name for name in names if name)])


_SHAPE = f"/subscriptions/{{s}}/resourceGroups/{{g}}/providers/{PROVIDER}/workspaces/{{w}}"


def _shortened(text: str) -> str:
    return text if len(text) <= 300 else f"{text[:297]}..."


def _malformed(text: str) -> InvalidResource:
    message = f"'{_shortened(text)}' is not a Batch AI resource id. Expected {_SHAPE}, then e.g. /clusters/{{c}}."
    return InvalidResource.of(INVALID_RESOURCE_ID, message, "id")
