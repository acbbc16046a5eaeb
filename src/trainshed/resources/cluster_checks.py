"""Rules for clusters and file servers beyond types and ranges (behaviour 3 and 4)."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from trainshed.resources.checks import check_account, check_secret, check_variables, check_volumes
from trainshed.resources.cluster import AutoScaleSettings, ClusterEngine, ClusterProperties, ScaleSettings
from trainshed.resources.engines import Option, problems_of
from trainshed.resources.errors import Problem
from trainshed.resources.fileserver import FileServerProperties
from trainshed.resources.findings import Findings
from trainshed.resources.vmsizes import VmSize, find_size, supported_sizes


def check_cluster(findings: Findings, cluster: ClusterProperties, extra_sizes: Mapping[str, VmSize]) -> None:
    """All rules of a cluster."""
    check_size(findings, "properties.vmSize", cluster.vm_size, extra_sizes, for_clusters=True)
    check_scale(findings, "properties.scaleSettings", cluster.scale_settings)
    check_account(findings, "properties.userAccountSettings", cluster.user_account_settings)
    _check_subnet(findings, cluster.subnet.id if cluster.subnet else None)
    setup = cluster.node_setup
    if setup is None:
        return
    check_volumes(findings, "properties.nodeSetup.mountVolumes", setup.mount_volumes)
    task = setup.setup_task
    if task is not None:
        path = "properties.nodeSetup.setupTask"
        if not task.command_line.strip():
            findings.value(
                f"{path}.commandLine", task.command_line, "is empty. Give a command, or leave out setupTask."
            )
        check_variables(findings, path, task.environment_variables, task.secrets)
    for index, image in enumerate(setup.container_images or []):
        if image.credentials is not None:
            path = f"properties.nodeSetup.containerImages[{index}].credentials"
            given, elsewhere = image.credentials.password, image.credentials.password_secret_reference
            check_secret(findings, path, "password", given, elsewhere)
    counters = setup.performance_counters_settings
    if counters is not None:
        reference = counters.app_insights_reference
        path = "properties.nodeSetup.performanceCountersSettings.appInsightsReference"
        key, key_elsewhere = reference.instrumentation_key, reference.instrumentation_key_secret_reference
        check_secret(findings, path, "instrumentationKey", key, key_elsewhere)


def check_engine(findings: Findings, engine: ClusterEngine | None, engines: Mapping[str, tuple[Option, ...]]) -> None:
    """The engine is one of those that there are, and its options are what it takes."""
    if engine is None:
        return
    if engine.name not in engines:
        known = ", ".join(sorted(engines))
        way_out = (
            f"is not an engine of this service. There are: {known}. An administrator adds others: trainshed engine add."
        )
        findings.value("properties.engine.name", engine.name, way_out)
        return
    for name, problem in problems_of(engine.options, engines[engine.name]):
        findings.rule(f"properties.engine.options.{name}", problem)


def check_scale(findings: Findings, path: str, scale: ScaleSettings) -> None:
    """Exactly one kind, and bounds that agree."""
    if (scale.manual is None) == (scale.auto_scale is None):
        found = "both" if scale.manual is not None else "neither"
        findings.rule(path, f"needs exactly one of manual and autoScale; it has {found}.")
    if scale.auto_scale is not None:
        _check_bounds(findings, f"{path}.autoScale", scale.auto_scale)


def _check_bounds(findings: Findings, path: str, scale: AutoScaleSettings) -> None:
    low, high, initial = scale.minimum_node_count, scale.maximum_node_count, scale.initial_node_count
    if low > high:
        way_out = f"is greater than maximumNodeCount, which is {high}. Make the minimum at most the maximum."
        findings.value(f"{path}.minimumNodeCount", low, way_out)
    elif initial > high or 0 < initial < low:
        # 0 is the default and what the original's command line sends with any minimum: the minimum then takes over.
        way_out = f"is out of range: it must be 0, or from minimumNodeCount ({low}) to maximumNodeCount ({high})."
        findings.value(f"{path}.initialNodeCount", initial, way_out)


def check_size(
    findings: Findings, path: str, name: str, extra_sizes: Mapping[str, VmSize], *, for_clusters: bool
) -> None:
    """The size is in the catalogue; the supported ones are in the details (rest-contract section 4)."""
    size = find_size(name, extra_sizes)
    if size is not None and (size.for_clusters or not for_clusters):
        return
    known = [size.name for size in supported_sizes(extra_sizes, for_clusters=for_clusters)]
    details = [Problem("SupportedVMSizes", ",".join(known))]
    message = (
        f"The specified value {name} for property {findings.property(path)} is not a supported VM size. "
        "See additional details for supported VM sizes."
    )
    findings.problems.append(Problem("InvalidPropertyValue", message, path, tuple(details)))


def check_file_server(findings: Findings, server: FileServerProperties, extra_sizes: Mapping[str, VmSize]) -> None:
    """All rules of a file server."""
    check_size(findings, "properties.vmSize", server.vm_size, extra_sizes, for_clusters=False)
    path = "properties.sshConfiguration"
    check_account(findings, f"{path}.userAccountSettings", server.ssh_configuration.user_account_settings)
    for index, text in enumerate(server.ssh_configuration.public_ips_to_allow or []):
        if text != "*" and not _is_network(text):
            way_out = "is not an address or a range. Write for example 203.0.113.0/24, or * for all."
            findings.value(f"{path}.publicIPsToAllow[{index}]", text, way_out)
    _check_subnet(findings, server.subnet.id if server.subnet else None)


def _check_subnet(findings: Findings, subnet: str | None) -> None:
    if subnet is not None and not subnet.lower().startswith("/subscriptions/"):
        way_out = "is not a resource id. Write /subscriptions/{s}/resourceGroups/{g}/.../subnets/{n}, or leave it out."
        findings.value("properties.subnet.id", subnet, way_out)


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True
