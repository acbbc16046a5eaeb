"""From a request's body to a checked model: one function for each kind of body.

The version decides about members that it doesn't know: 2018-05-01 ignores and reports them, 2026-11-01 refuses them.
All functions raise InvalidResource with every problem found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from trainshed.resources import ids, names
from trainshed.resources.access import PrincipalCreate, RoleAssignmentCreate, TokenCreate
from trainshed.resources.cluster import ClusterCreate, ClusterUpdate
from trainshed.resources.cluster_checks import check_cluster, check_engine, check_file_server, check_scale
from trainshed.resources.common import Model
from trainshed.resources.engines import DEFAULT_ENGINE, Option
from trainshed.resources.experiment import ExperimentCreate
from trainshed.resources.fileserver import FileServerCreate
from trainshed.resources.findings import Findings
from trainshed.resources.job import JobCreate
from trainshed.resources.job_array import JobArrayCreate, check_array
from trainshed.resources.job_checks import check_cluster_id, check_job
from trainshed.resources.job_plan import JobPlanCreate
from trainshed.resources.resource_group import ResourceGroupCreate, ResourceGroupUpdate
from trainshed.resources.scheduling_rules import SchedulingRulesCreate
from trainshed.resources.storage_account import CheckName, RegenerateKey, StorageAccountCreate
from trainshed.resources.validation import read_model, read_object
from trainshed.resources.versions import ApiVersion
from trainshed.resources.vmsizes import VmSize
from trainshed.resources.workspace import WorkspaceCreate, WorkspaceUpdate

Body = bytes | bytearray | str | Mapping[str, Any] | None
M = TypeVar("M", bound=Model)


@dataclass(frozen=True, slots=True)
class Parsed(Generic[M]):
    """A checked body. ``ignored`` are the JSON paths of members that the version doesn't know."""

    model: M
    ignored: tuple[str, ...] = ()


def _read(model: type[M], body: Body, noun: str, version: ApiVersion | str) -> Parsed[M]:
    made, ignored = read_model(model, read_object(body, noun), noun, ApiVersion(version))
    return Parsed(made, tuple(ignored))


def parse_workspace(body: Body, version: ApiVersion | str) -> Parsed[WorkspaceCreate]:
    """Body of PUT workspace."""
    parsed = _read(WorkspaceCreate, body, "Workspace", version)
    _check_region("Workspace", parsed.model.location)
    return parsed


def parse_workspace_update(body: Body, version: ApiVersion | str) -> Parsed[WorkspaceUpdate]:
    """Body of PATCH workspace."""
    return _read(WorkspaceUpdate, body, "Workspace", version)


def parse_scheduling_rules(body: Body) -> dict[str, Any]:
    """Body of PUT schedulingRules, in canonical form without what is absent."""
    made = _read(SchedulingRulesCreate, body, "SchedulingRules", ApiVersion.V2026_11_01).model.properties
    return made.model_dump(mode="json", by_alias=True, exclude_none=True)


def parse_resource_group(body: Body) -> ResourceGroupCreate:
    """Body of PUT resource group. Members that are not known are ignored: many versions of clients send it."""
    made = _read(ResourceGroupCreate, body, "ResourceGroup", ApiVersion.V2018_05_01).model
    _check_region("ResourceGroup", made.location)
    return made


def parse_resource_group_update(body: Body) -> ResourceGroupUpdate:
    """Body of PATCH resource group."""
    return _read(ResourceGroupUpdate, body, "ResourceGroup", ApiVersion.V2018_05_01).model


def parse_storage_account(body: Body) -> StorageAccountCreate:
    """Body of PUT storage account. Members that an embedded account has no use for are ignored."""
    made = _read(StorageAccountCreate, body, "StorageAccount", ApiVersion.V2018_05_01).model
    _check_region("StorageAccount", made.location)
    return made


def parse_regenerate_key(body: Body) -> RegenerateKey:
    """Body of POST regenerateKey."""
    return _read(RegenerateKey, body, "StorageAccount", ApiVersion.V2018_05_01).model


def parse_check_name(body: Body) -> CheckName:
    """Body of POST checkNameAvailability."""
    return _read(CheckName, body, "StorageAccount", ApiVersion.V2018_05_01).model


def _check_region(noun: str, location: str) -> None:
    findings = Findings(noun)
    if not names.is_location(location):
        findings.value("location", location, f"cannot be a region. It has {names.LOCATION_RULE}.")
    findings.raise_any()


def parse_experiment(body: Body, version: ApiVersion | str) -> Parsed[ExperimentCreate]:
    """Body of PUT experiment; usually empty."""
    return _read(ExperimentCreate, body, "Experiment", version)


def parse_cluster(
    body: Body,
    version: ApiVersion | str,
    *,
    extra_sizes: Mapping[str, VmSize] | None = None,
    engines: Mapping[str, tuple[Option, ...]] | None = None,
) -> Parsed[ClusterCreate]:
    """Body of PUT cluster. ``extra_sizes`` are the machine's own VM sizes beside Azure's; ``engines`` those that a
    cluster may be on, with what it may ask of them.
    """
    parsed = _read(ClusterCreate, body, "Cluster", version)
    findings = Findings("Cluster")
    check_cluster(findings, parsed.model.properties, extra_sizes or {})
    check_engine(findings, parsed.model.properties.engine, engines or {DEFAULT_ENGINE: ()})
    findings.raise_any()
    return parsed


def parse_cluster_update(body: Body, version: ApiVersion | str) -> Parsed[ClusterUpdate]:
    """Body of PATCH cluster."""
    parsed = _read(ClusterUpdate, body, "Cluster", version)
    properties = parsed.model.properties
    if properties is not None and properties.scale_settings is not None:
        findings = Findings("Cluster")
        check_scale(findings, "properties.scaleSettings", properties.scale_settings)
        findings.raise_any()
    return parsed


def parse_file_server(
    body: Body, version: ApiVersion | str, *, extra_sizes: Mapping[str, VmSize] | None = None
) -> Parsed[FileServerCreate]:
    """Body of PUT file server."""
    parsed = _read(FileServerCreate, body, "FileServer", version)
    findings = Findings("FileServer")
    check_file_server(findings, parsed.model.properties, extra_sizes or {})
    findings.raise_any()
    return parsed


def parse_job(body: Body, version: ApiVersion | str, *, gpus_per_node: int | None = None) -> Parsed[JobCreate]:
    """Body of PUT job. The cluster's id is rewritten to the service's own form."""
    parsed = _read(JobCreate, body, "Job", version)
    job = parsed.model.properties
    findings = Findings("Job")
    check_job(findings, job, gpus_per_node, newer_toolkits=ApiVersion(version).is_strict)
    check_cluster_id(findings, job.cluster.id)
    findings.raise_any()
    job.cluster.id = str(ids.parse_cluster_id(job.cluster.id))
    return parsed


def parse_job_array(body: Body, *, gpus_per_node: int | None = None) -> JobArrayCreate:
    """Body of PUT job array: judged as PUT job of 2026-11-01 would judge each of its jobs."""
    made = _read(JobArrayCreate, body, "Job", ApiVersion.V2026_11_01).model
    properties = made.properties
    findings = Findings("Job")
    check_job(findings, properties, gpus_per_node)
    check_cluster_id(findings, properties.cluster.id)
    check_array(findings, properties)
    findings.raise_any()
    properties.cluster.id = str(ids.parse_cluster_id(properties.cluster.id))
    return made


def parse_job_plan(body: Body, *, gpus_per_node: int | None = None) -> Parsed[JobPlanCreate]:
    """Body of POST planJob: judged as PUT job of the API version that it names would judge it."""
    whole = read_object(body, "Job")
    original = whole.get("apiVersion") == ApiVersion.V2018_05_01.value
    parsed = _read(JobPlanCreate, whole, "Job", ApiVersion.V2018_05_01 if original else ApiVersion.V2026_11_01)
    job = parsed.model.properties
    findings = Findings("Job")
    check_job(findings, job, gpus_per_node)
    if job.cluster is not None:
        check_cluster_id(findings, job.cluster.id)
    findings.raise_any()
    if job.cluster is not None:
        job.cluster.id = str(ids.parse_cluster_id(job.cluster.id))
    return parsed


def parse_principal(body: Body) -> PrincipalCreate:
    """Body of PUT principal."""
    return _read(PrincipalCreate, body, "Principal", ApiVersion.V2026_11_01).model


def parse_token(body: Body) -> TokenCreate:
    """Body of POST tokens."""
    return _read(TokenCreate, body, "Token", ApiVersion.V2026_11_01).model


def parse_role_assignment(body: Body) -> RoleAssignmentCreate:
    """Body of PUT role assignment. Members of Azure's that mean nothing here (conditions, delegation) are ignored."""
    return _read(RoleAssignmentCreate, body, "RoleAssignment", ApiVersion.V2018_05_01).model
