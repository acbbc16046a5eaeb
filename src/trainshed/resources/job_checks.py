"""Rules for jobs beyond types and ranges (behaviour 5 and 8)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from trainshed.resources import ids, names
from trainshed.resources.checks import check_secret, check_variables, check_volumes
from trainshed.resources.common import Model
from trainshed.resources.dependencies import check_dependencies
from trainshed.resources.directories import STDOUTERR
from trainshed.resources.errors import InvalidResource
from trainshed.resources.findings import Findings
from trainshed.resources.job import ContainerSettings, InputDirectory, JobProperties, OutputDirectory
from trainshed.resources.settings import CaffeSettings, CntkSettings, PyTorchSettings, TensorFlowSettings
from trainshed.resources.today_settings import RankScript
from trainshed.resources.toolsettings import (
    EQUAL_ON_NODES,
    GIVE_GPUS_THEMSELVES,
    NEWER_TOOL_TYPES,
    ORIGINAL_TOOL_TYPES,
    TOOL_TYPES,
)

#: Values of communicationBackend. The original knew the first three; NCCL is today's for GPUs.
BACKENDS = ("TCP", "Gloo", "MPI", "NCCL")
_SHM_SIZE = re.compile(r"\d+(\.\d+)? ?([kmgtp]i?b?|b)?", re.ASCII | re.IGNORECASE)


def check_job(
    findings: Findings, job: JobProperties, gpus_per_node: int | None = None, *, newer_toolkits: bool = True
) -> None:
    """All rules but its cluster's. ``gpus_per_node`` bounds workers and gpusPerProcess where the cluster is known.

    ``newer_toolkits``: whether the version has those of 2026-11-01, so that they can be advised.
    """
    _check_toolkit(findings, job, gpus_per_node, TOOL_TYPES if newer_toolkits else ORIGINAL_TOOL_TYPES)
    if job.gpus_per_process is not None:
        _check_gpus(findings, job, job.gpus_per_process, gpus_per_node)
    _check_directories(findings, "inputDirectories", job.input_directories or [])
    _check_directories(findings, "outputDirectories", job.output_directories or [])
    for index, directory in enumerate(job.output_directories or []):
        suffix = directory.path_suffix or ""
        if suffix.startswith("/") or ".." in suffix.split("/"):
            way_out = "must be a path below the prefix: relative and without '..', for example models."
            findings.value(f"properties.outputDirectories[{index}].pathSuffix", suffix, way_out)
    if not job.std_out_err_path_prefix.strip():
        way_out = "is empty. Write for example $AZ_BATCHAI_MOUNT_ROOT/logs."
        findings.value("properties.stdOutErrPathPrefix", job.std_out_err_path_prefix, way_out)
    if job.job_preparation is not None:
        _check_command(findings, "jobPreparation", job.job_preparation.command_line)
    check_dependencies(findings, job.depends_on)
    check_variables(findings, "properties", job.environment_variables, job.secrets)
    check_volumes(findings, "properties.mountVolumes", job.mount_volumes)
    if job.container_settings is not None:
        _check_container(findings, job.container_settings)


def _check_toolkit(findings: Findings, job: JobProperties, gpus_per_node: int | None, known: Mapping[str, str]) -> None:
    members = {field.alias: name for name, field in JobProperties.model_fields.items()}
    given = [member for member in known if getattr(job, members[member]) is not None]
    if len(given) != 1:
        found = f"it has {' and '.join(given)}" if given else "it has none"
        findings.rule(
            "properties", f"needs the settings of exactly one toolkit; {found}. Give one of {', '.join(known)}."
        )
    if job.custom_toolkit_settings is not None:
        _check_command(findings, "customToolkitSettings", job.custom_toolkit_settings.command_line)
    if job.custom_mpi_settings is not None:
        _check_command(findings, "customMpiSettings", job.custom_mpi_settings.command_line)
    if job.cntk_settings is not None:
        _check_cntk(findings, job.cntk_settings)
    if job.caffe_settings is not None:
        _check_caffe(findings, job.caffe_settings)
    if job.tensor_flow_settings is not None:
        _check_tensorflow(findings, job.tensor_flow_settings, job.node_count, gpus_per_node)
    if job.py_torch_settings is not None:
        _check_pytorch(findings, job.py_torch_settings)
    for member in NEWER_TOOL_TYPES:
        settings = getattr(job, members[member])
        if isinstance(settings, RankScript):
            _check_ranks(findings, member, settings.process_count, job.node_count)


def _check_gpus(findings: Findings, job: JobProperties, each: int, gpus_per_node: int | None) -> None:
    """On the node that has most processes; toolkits without a count have one a node (behaviour 8)."""
    for name, field in JobProperties.model_fields.items():
        if field.alias in GIVE_GPUS_THEMSELVES and getattr(job, name) is not None:
            why = f"does not go with {field.alias}: {GIVE_GPUS_THEMSELVES[field.alias]}"
            findings.value("properties.gpusPerProcess", each, why)
            return
    if gpus_per_node is None:
        return
    counts = [
        getattr(settings, member, None) or 1
        for _, settings in job
        for member in ("process_count", "worker_count")
        if isinstance(settings, Model)
    ]
    processes = -(-max(counts) // job.node_count)
    if processes * each > gpus_per_node:
        held = f"a node has {gpus_per_node} GPUs"
        way_out = f"is too large: {held}, and {processes} of the job's processes run on one."
        findings.value("properties.gpusPerProcess", each, f"{way_out} Use fewer processes, more nodes or another size.")


def _check_command(findings: Findings, member: str, command_line: str | None) -> None:
    if not (command_line or "").strip():
        way_out = "is empty. Give the command to run, for example python train.py."
        findings.value(f"properties.{member}.commandLine", command_line, way_out)
    elif "\0" in (command_line or ""):
        findings.rule(f"properties.{member}.commandLine", "holds a NUL character, which no command line can.")


def _check_cntk(findings: Findings, cntk: CntkSettings) -> None:
    path = "properties.cntkSettings"
    if cntk.language_type == "Python":
        if cntk.python_script_file_path is None:
            findings.rule(path, "needs pythonScriptFilePath, since languageType is Python.")
        if cntk.config_file_path is not None:
            findings.rule(f"{path}.configFilePath", "goes with languageType BrainScript only. Leave it out for Python.")
    else:
        if cntk.config_file_path is None:
            way_out = "needs configFilePath for BrainScript, or pythonScriptFilePath with languageType Python."
            findings.rule(path, way_out)
        for member, value in (
            ("pythonScriptFilePath", cntk.python_script_file_path),
            ("pythonInterpreterPath", cntk.python_interpreter_path),
        ):
            if value is not None:
                findings.rule(f"{path}.{member}", "goes with languageType Python only. Leave it out for BrainScript.")


def _check_caffe(findings: Findings, caffe: CaffeSettings) -> None:
    path = "properties.caffeSettings"
    if (caffe.config_file_path is None) == (caffe.python_script_file_path is None):
        found = "both" if caffe.config_file_path is not None else "neither"
        findings.rule(path, f"needs exactly one of configFilePath and pythonScriptFilePath; it has {found}.")
    elif caffe.python_interpreter_path is not None and caffe.python_script_file_path is None:
        findings.rule(f"{path}.pythonInterpreterPath", "goes with pythonScriptFilePath only. Leave it out.")


def _check_tensorflow(findings: Findings, settings: TensorFlowSettings, nodes: int, gpus_per_node: int | None) -> None:
    path = "properties.tensorFlowSettings"
    workers, servers = settings.worker_count or 1, settings.parameter_server_count or 0
    if gpus_per_node and workers > nodes * gpus_per_node:
        most = f"{nodes * gpus_per_node} ({nodes} nodes of {gpus_per_node} GPUs)"
        findings.value(f"{path}.workerCount", workers, f"is too large: at most nodeCount x GPUs of a node, {most}.")
    if servers > nodes:
        way_out = f"is too large: at most one parameter server a node, and nodeCount is {nodes}."
        findings.value(f"{path}.parameterServerCount", servers, way_out)


def _check_pytorch(findings: Findings, settings: PyTorchSettings) -> None:
    backend = settings.communication_backend
    if backend is not None and backend.lower() not in {known.lower() for known in BACKENDS}:
        way_out = f"is not supported. Supported values: {', '.join(BACKENDS)}."
        findings.value("properties.pyTorchSettings.communicationBackend", backend, way_out)


def _check_ranks(findings: Findings, member: str, processes: int | None, nodes: int) -> None:
    path = f"properties.{member}.processCount"
    if processes is not None and processes < nodes:
        findings.value(path, processes, f"is too small: each node has a process, and nodeCount is {nodes}.")
    elif processes is not None and member in EQUAL_ON_NODES and processes % nodes:
        way_out = f"is not a multiple of nodeCount, {nodes}: every node needs the same number of processes."
        findings.value(path, processes, way_out)


def check_cluster_id(findings: Findings, text: str) -> None:
    """The id of the cluster that the job names."""
    try:
        ids.parse_cluster_id(text)
    except InvalidResource as error:
        findings.value("properties.cluster.id", text, f"is not a cluster's id. {error.message}")


def _check_directories(
    findings: Findings, member: str, directories: Iterable[InputDirectory | OutputDirectory]
) -> None:
    seen: dict[str, int] = {}
    for index, directory in enumerate(directories):
        path = f"properties.{member}[{index}].id"
        if not names.is_identifier(f"_{directory.id}") or not directory.id:
            way_out = "cannot be an id: it becomes part of a variable's name. Use letters, digits and '_' only."
            findings.value(path, directory.id, way_out)
        elif directory.id in seen:
            findings.value(path, directory.id, f"occurs twice, also at {member}[{seen[directory.id]}]. Ids are unique.")
        elif member == "outputDirectories" and directory.id.lower() == STDOUTERR:
            findings.value(path, directory.id, "is reserved for the standard output directory. Choose another id.")
        seen.setdefault(directory.id, index)


def _check_container(findings: Findings, container: ContainerSettings) -> None:
    path = "properties.containerSettings"
    if container.shm_size is not None and not _SHM_SIZE.fullmatch(container.shm_size):
        way_out = "is not a size as docker writes it: a number and b, k, m or g, for example 512m."
        findings.value(f"{path}.shmSize", container.shm_size, way_out)
    credentials = container.image_source_registry.credentials
    if credentials is not None:
        place = f"{path}.imageSourceRegistry.credentials"
        check_secret(findings, place, "password", credentials.password, credentials.password_secret_reference)
