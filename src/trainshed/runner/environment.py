"""The environment of an attempt's processes on one node (behaviour 7).

The node's own variables come first, as far as they are handed on (``inherited``), then the contract's, the job's own
and its secrets (``resources.directories.job_environment``), which may replace earlier ones.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass

from trainshed.resources import directories
from trainshed.resources.preemption import warning_signal
from trainshed.runner import warned
from trainshed.runner.inherited import handed_on
from trainshed.runner.spec import RunnerSpec
from trainshed.runner.view import USER_NAME

#: The interface that has the loopback addresses.
LOOPBACK_INTERFACE = "lo"
_GPU_VARIABLES = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
#: For gangs whose nodes all have loopback addresses of this machine: MPI libraries would otherwise look for another
#: network, or for shared memory, which nodes in different PID namespaces do not have (UCX then finds no connection).
#: The node's own values and the user's win.
_LOOPBACK_NETWORK = {
    "MPIR_CVAR_CH4_NETMOD": "ofi",
    "FI_PROVIDER": "tcp",
    "FI_TCP_IFACE": LOOPBACK_INTERFACE,
    "UCX_TLS": "tcp,self",
    "OMPI_MCA_btl_tcp_if_include": LOOPBACK_INTERFACE,
}
_COMMON = {
    "PATH",
    "LANG",
    "LANGUAGE",
    "TZ",
    "LD_LIBRARY_PATH",
    "CUDA_HOME",
    "CUDA_PATH",
    "ROCM_PATH",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
}
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_CONTAINER_ROOT = {"HOME": "/root", "USER": "root", "LOGNAME": "root"}
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Container:
    """What the job's container has of its own: the variables that its image sets, and its shell."""

    variables: Mapping[str, str]
    shell: str


def node_environment(
    spec: RunnerSpec, environment: Mapping[str, str], container: Container | None = None
) -> dict[str, str]:
    """What the node itself gives to every job, made of the runner's own environment, or of the container's."""
    if container is not None:
        passed = {} if spec.view else {name: environment[name] for name in _PROXIES if name in environment}
        base = {**_CONTAINER_ROOT, "SHELL": container.shell, **passed, **container.variables}
    elif spec.view is not None:
        base = {**stranger_environment(environment), **_stranger(spec)}
    else:
        base = handed_on(environment)
    if not {"HOME", "USER", "SHELL"} <= base.keys():
        base = {**_account(), **base}
    base.setdefault("PATH", _DEFAULT_PATH)
    base.setdefault("LANG", "C.UTF-8")
    base["HOSTNAME"] = spec.hosts[spec.node_index].name
    base["PYTHONUNBUFFERED"] = "1"
    base["TRAINSHED_JOB_ID"] = spec.identity.uid
    base["TRAINSHED_ATTEMPT"] = str(spec.attempt_number)
    base["TRAINSHED_ATTEMPT_ID"] = spec.attempt_id
    base[warned.SIGNAL_VARIABLE] = warning_signal(spec.properties)
    base[warned.NOTICE_VARIABLE] = f"{_job_temp(spec)}/{warned.NOTICE_NAME}"
    if spec.gpu_devices:
        base.update(dict.fromkeys(_GPU_VARIABLES, spec.gpu_devices[spec.node_index]))
    if on_loopback(spec):
        base = {**_LOOPBACK_NETWORK, **base}
    base.update(spec.extra_environment)
    return base


def stranger_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What those who are not the service's own user get of its environment: where programs are, and how text looks.

    Everything else might be a secret of whoever started the service.
    """
    return {name: value for name, value in environment.items() if name in _COMMON or name.startswith("LC_")}


def _stranger(spec: RunnerSpec) -> dict[str, str]:
    return {"HOME": _job_temp(spec), "USER": USER_NAME, "LOGNAME": USER_NAME, "SHELL": "/bin/bash"}


def _job_temp(spec: RunnerSpec) -> str:
    identity = spec.identity
    return directories.job_temp(spec.directories.job_temp_root, identity.workspace, identity.experiment, identity.job)


def on_loopback(spec: RunnerSpec) -> bool:
    """Whether this is a gang of several nodes that all have loopback addresses."""
    return len(spec.hosts) > 1 and all(host.address.startswith("127.") for host in spec.hosts)


def job_environment(spec: RunnerSpec, secrets: Mapping[str, str], container: Container | None = None) -> dict[str, str]:
    """Everything that preparation and job see."""
    place = directories.JobPlace(
        workspace=spec.identity.workspace,
        experiment=spec.identity.experiment,
        job=spec.identity.job,
        segment=spec.identity.segment,
        mount_root=spec.directories.mount_root,
        job_temp_root=spec.directories.job_temp_root,
        shared_job_temp=spec.directories.shared_job_temp,
        addresses=[host.address for host in spec.hosts],
        gpus=spec.hosts[spec.node_index].gpus,
        attempt_number=spec.attempt_number,
        secrets=secrets,
        node_environment=node_environment(spec, os.environ, container),
    )
    return directories.job_environment(spec.properties, place)


def _account() -> dict[str, str]:
    """HOME, USER and SHELL of the account that the runner has."""
    try:
        entry = pwd.getpwuid(os.geteuid())
    except KeyError:
        return {"HOME": "/", "USER": str(os.geteuid()), "SHELL": "/bin/bash"}
    return {"HOME": entry.pw_dir, "USER": entry.pw_name, "LOGNAME": entry.pw_name, "SHELL": entry.pw_shell}
