"""What the service answers, as light values: the contract's JSON (``json``), and its members under Python names.

These are views for reading. The typed models for writing are in ``trainshed.resources``, which costs more to import.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from trainshed.resources.lifecycle import JOB, JobState


def parse_time(text: str | None) -> datetime | None:
    """``2018-06-06T21:06:02.35Z`` as an aware datetime (rest-contract section 1)."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")) if text else None


@dataclass(frozen=True, slots=True)
class Problem:
    """A BatchAIError: why something failed or waits."""

    code: str
    message: str
    details: tuple[tuple[str, str], ...] = ()

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> Problem:
        """Details are ``[{name, value}]`` in the contract; an object is read as well."""
        found = json.get("details") or ()
        if isinstance(found, Mapping):
            details = tuple((str(name), str(value)) for name, value in found.items())
        else:
            details = tuple((str(entry.get("name", "")), str(entry.get("value", ""))) for entry in found)
        return cls(str(json.get("code", "")), str(json.get("message", "")), details)


@dataclass(frozen=True, slots=True)
class Resource:
    """What all resources have."""

    json: Mapping[str, Any]

    @property
    def id(self) -> str:
        return str(self.json["id"])

    @property
    def name(self) -> str:
        return str(self.json["name"])

    @property
    def properties(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.json.get("properties") or {}
        return found

    @property
    def provisioning_state(self) -> str:
        return str(self.properties.get("provisioningState", ""))

    @property
    def created(self) -> datetime | None:
        return parse_time(self.properties.get("creationTime"))

    @property
    def resource_group(self) -> str:
        return segment_after(self.id, "resourceGroups")

    @property
    def workspace(self) -> str:
        return segment_after(self.id, "workspaces")


@dataclass(frozen=True, slots=True)
class Workspace(Resource):
    """A workspace."""

    @property
    def location(self) -> str:
        return str(self.json.get("location", ""))

    @property
    def tags(self) -> Mapping[str, str]:
        return self.json.get("tags") or {}


@dataclass(frozen=True, slots=True)
class ResourceGroup(Resource):
    """A resource group."""

    @property
    def location(self) -> str:
        return str(self.json.get("location", ""))

    @property
    def tags(self) -> Mapping[str, str]:
        return self.json.get("tags") or {}


@dataclass(frozen=True, slots=True)
class StorageAccount(Resource):
    """A storage account: its directory lies below the service's home."""

    @property
    def location(self) -> str:
        return str(self.json.get("location", ""))

    @property
    def kind(self) -> str:
        return str(self.json.get("kind", ""))


@dataclass(frozen=True, slots=True)
class FileServer(Resource):
    """A file server: its size, its disks, and where it is reached once it is provisioned."""

    @property
    def vm_size(self) -> str:
        return str(self.properties.get("vmSize", ""))

    @property
    def disks(self) -> str:
        """``2 x 100 Gb``."""
        found = self.properties.get("dataDisks") or {}
        return f"{found.get('diskCount', 0)} x {found.get('diskSizeInGB', 0)} Gb" if found else ""

    @property
    def public_address(self) -> str:
        return str((self.properties.get("mountSettings") or {}).get("fileServerPublicIP", ""))

    @property
    def internal_address(self) -> str:
        return str((self.properties.get("mountSettings") or {}).get("fileServerInternalIP", ""))

    @property
    def mount_point(self) -> str:
        return str((self.properties.get("mountSettings") or {}).get("mountPoint", ""))


@dataclass(frozen=True, slots=True)
class Experiment(Resource):
    """An experiment: a named bag of jobs."""


@dataclass(frozen=True, slots=True)
class Cluster(Resource):
    """A cluster and its nodes' states."""

    @property
    def vm_size(self) -> str:
        return str(self.properties.get("vmSize", ""))

    @property
    def allocation_state(self) -> str:
        return str(self.properties.get("allocationState", ""))

    @property
    def engine(self) -> str:
        """Where its nodes are."""
        return str((self.properties.get("engine") or {}).get("name", "local"))

    @property
    def node_count(self) -> int:
        return int(self.properties.get("currentNodeCount", 0))

    @property
    def scale_settings(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.properties.get("scaleSettings") or {}
        return found

    @property
    def target_node_count(self) -> int | None:
        """The manual target; None for a cluster that scales itself."""
        manual = self.scale_settings.get("manual")
        return int(manual.get("targetNodeCount", 0)) if manual is not None else None

    @property
    def errors(self) -> tuple[Problem, ...]:
        return tuple(Problem.from_json(error) for error in self.properties.get("errors") or ())

    def nodes_in(self, state: str) -> int:
        """How many nodes are ``idle``, ``running``, ``preparing``, ``unusable`` or ``leaving``."""
        return int((self.properties.get("nodeStateCounts") or {}).get(f"{state}NodeCount", 0))


@dataclass(frozen=True, slots=True)
class Job(Resource):
    """A job: what it is, where it stands, how it ended."""

    @property
    def experiment(self) -> str:
        return segment_after(self.id, "experiments")

    @property
    def execution_state(self) -> JobState:
        return JobState(self.properties.get("executionState", JobState.QUEUED))

    @property
    def final(self) -> bool:
        """Whether it succeeded or failed, and so never changes again."""
        return self.execution_state in JOB.final

    @property
    def exit_code(self) -> int | None:
        """None while it has none; also for a job that was terminated (rest-contract section 0, fact 4)."""
        code = (self.properties.get("executionInfo") or {}).get("exitCode")
        return int(code) if code is not None else None

    @property
    def errors(self) -> tuple[Problem, ...]:
        info = self.properties.get("executionInfo") or {}
        return tuple(Problem.from_json(error) for error in info.get("errors") or ())

    @property
    def started(self) -> datetime | None:
        return parse_time((self.properties.get("executionInfo") or {}).get("startTime"))

    @property
    def ended(self) -> datetime | None:
        return parse_time((self.properties.get("executionInfo") or {}).get("endTime"))

    @property
    def node_count(self) -> int:
        return int(self.properties.get("nodeCount", 0))

    @property
    def tool_type(self) -> str:
        return str(self.properties.get("toolType", ""))

    @property
    def cluster_id(self) -> str:
        return str((self.properties.get("cluster") or {}).get("id", ""))

    @property
    def attempt(self) -> int:
        """Number of the latest attempt; 0 before the first."""
        return int(self.properties.get("attempt") or 0)

    @property
    def preemptions(self) -> int:
        """How often it had to give up its nodes."""
        return int(self.properties.get("preemptions") or 0)

    @property
    def array(self) -> str:
        """The name of the array that it is of; empty for a job by itself."""
        return str((self.properties.get("jobArray") or {}).get("name", ""))

    @property
    def unmet_dependencies(self) -> int:
        """How many conditions of its ``dependsOn`` are not met yet."""
        return int(self.properties.get("unmetDependencies") or 0)

    @property
    def why_waiting(self) -> Problem | None:
        """Why it is queued, and what would change that."""
        found = self.properties.get("whyWaiting")
        return Problem.from_json(found) if found else None

    @property
    def output_ids(self) -> tuple[str, ...]:
        """Ids of its output directories, without the ``stdouterr`` that every job has."""
        return tuple(str(entry["id"]) for entry in self.properties.get("outputDirectories") or ())


@dataclass(frozen=True, slots=True)
class File:
    """An entry of an output directory. Size and time are known for files only."""

    json: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.json["name"])

    @property
    def is_directory(self) -> bool:
        return self.json.get("fileType") == "directory"

    @property
    def download_url(self) -> str | None:
        return self.json.get("downloadUrl")

    @property
    def size(self) -> int | None:
        """In bytes."""
        size = (self.json.get("properties") or {}).get("contentLength")
        return int(size) if size is not None else None

    @property
    def modified(self) -> datetime | None:
        return parse_time((self.json.get("properties") or {}).get("lastModified"))


@dataclass(frozen=True, slots=True)
class Log:
    """A log file of a job: whose output it is, on which node, and how long it was when it was listed."""

    json: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Relative to ``stdouterr``."""
        return str(self.json["name"])

    @property
    def stream(self) -> str:
        """``stdout``, ``stderr`` or ``service``."""
        return str(self.json["stream"])

    @property
    def role(self) -> str:
        """``rank``, ``master``, ``worker``, ``ps``, ``preparation``, ``service`` ..."""
        return str(self.json["role"])

    @property
    def rank(self) -> int | None:
        """Its number among all ranks; None for what is no rank."""
        rank = self.json.get("rank")
        return None if rank is None else int(rank)

    @property
    def node(self) -> str:
        """Host name; empty when unknown."""
        return str(self.json.get("node", ""))

    @property
    def node_id(self) -> str:
        return str(self.json.get("nodeId", ""))

    @property
    def label(self) -> str:
        """``rank 3``, ``ps 0``: how people tell it from others."""
        return f"rank {self.rank}" if self.rank is not None else f"{self.role} {self.json.get('index', 0)}"

    @property
    def size(self) -> int:
        """In bytes."""
        return int(self.json["size"])

    @property
    def last_modified(self) -> datetime | None:
        return parse_time(self.json.get("lastModified"))

    @property
    def times(self) -> str:
        """The log that tells how this one grew; empty when there is none."""
        return str(self.json.get("times", ""))

    @property
    def times_size(self) -> int:
        return int(self.json.get("timesSize", 0))


@dataclass(frozen=True, slots=True)
class RemoteLogin:
    """Where a person can log in to a node."""

    json: Mapping[str, Any]

    @property
    def node_id(self) -> str:
        return str(self.json.get("nodeId", ""))

    @property
    def address(self) -> str:
        return str(self.json.get("ipAddress", ""))

    @property
    def port(self) -> int | None:
        port = self.json.get("port")
        return int(port) if port is not None else None


@dataclass(frozen=True, slots=True)
class JobArray(Resource):
    """Jobs that were submitted together."""

    @property
    def counts(self) -> Mapping[str, int]:
        """How many of its jobs are in each execution state."""
        found: Mapping[str, int] = self.properties.get("jobCounts") or {}
        return found

    @property
    def unfinished(self) -> int:
        """How many of its jobs have not ended."""
        return sum(number for state, number in self.counts.items() if JobState(state) not in JOB.final)


@dataclass(frozen=True, slots=True)
class Record:
    """An entry of a list that has no type of its own here: a node, an attempt, an event, a usage, a VM size."""

    json: Mapping[str, Any]

    def get(self, *names: str) -> Any:
        """The first of these members that is present, else None."""
        for name in names:
            if self.json.get(name) is not None:
                return self.json[name]
        return None


def segment_after(resource_id: str, kind: str) -> str:
    """The name that follows ``kind`` in an ARM id, whatever the case of ``kind``; empty when there is none."""
    parts = resource_id.split("/")
    for kind_part, name in pairwise(parts):
        if kind_part.lower() == kind.lower():
            return name
    return ""


__all__ = [
    "Cluster",
    "Experiment",
    "File",
    "FileServer",
    "Job",
    "Log",
    "Problem",
    "Record",
    "RemoteLogin",
    "Resource",
    "ResourceGroup",
    "StorageAccount",
    "Workspace",
    "parse_time",
    "segment_after",
]
