"""Which image a job wants, read as docker reads names: pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from trainshed.runner.containers.errors import ContainerError

#: Where images come from when nothing else is said, and its other names.
HUB = "docker.io"
_HUB_NAMES = ("index.docker.io", "registry-1.docker.io", "registry.hub.docker.com", "hub.docker.com")
#: Of the job's private values.
PASSWORD = "/containerSettings/imageSourceRegistry/credentials/password"
OCI = "oci:"
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
_REFERENCE = re.compile(
    rf"(?:(?P<host>{_HOST})/)?(?P<path>{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?",
    re.ASCII,
)
_SERVER = re.compile(rf"(?P<scheme>https?://)?(?P<host>{_HOST})(?P<path>(?:/{_COMPONENT})*?)(?:/v[12])?/*", re.ASCII)
_LOOPBACK = re.compile(r"(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])(?::\d+)?")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a job's containerSettings ask for."""

    #: As the job writes it.
    name: str
    #: Full name with registry, and tag or digest; empty for a directory.
    reference: str = ""
    #: Names that local stores may have it by, likeliest first.
    known_as: tuple[str, ...] = ()
    #: Directory with an OCI layout, and which of its images; empty for a registry's.
    folder: str = ""
    tag: str = ""
    #: Whether the registry may be spoken to without TLS.
    plain_http: bool = False
    #: Registry that the credentials are for.
    server: str = ""
    user: str = ""
    password: str = field(default="", repr=False)
    #: Size of ``/dev/shm`` as docker writes it; empty for the runtime's own.
    shm_size: str = ""


def wanted(settings: Mapping[str, Any], password: str, expand: Callable[[str], str] = str) -> Wanted:
    """From a job's containerSettings and the registry's password; ``expand`` puts variables into a directory's path.

    Raises ContainerError.
    """
    registry = settings.get("imageSourceRegistry") or {}
    name = str(registry.get("image") or "")
    credentials = registry.get("credentials") or {}
    shm_size = str(settings.get("shmSize") or "")
    if name.startswith(OCI):
        return _layout(name, expand, shm_size)
    server, plain = _server(str(registry.get("serverUrl") or ""))
    reference, host, local = _reference(name.removeprefix("docker://"), server)
    return Wanted(
        name=name,
        reference=reference,
        known_as=local,
        plain_http=plain or bool(_LOOPBACK.fullmatch(host)),
        server=host,
        user=str(credentials.get("username") or ""),
        password=password,
        shm_size=shm_size,
    )


def _server(text: str) -> tuple[str, bool]:
    """Registry (and path) of a serverUrl, and whether it is asked for without TLS."""
    if not text:
        return "", False
    found = _SERVER.fullmatch(text)
    if found is None:
        raise ContainerError(
            f"imageSourceRegistry.serverUrl is {text!r}, which is no registry",
            "Write its host name, with a port if need be: registry.example.com:5000.",
        )
    host = HUB if found["host"] in _HUB_NAMES else found["host"]
    return host + found["path"], found["scheme"] == "http://"


def _reference(name: str, server: str) -> tuple[str, str, tuple[str, ...]]:
    """Full name, registry, and the names of local stores."""
    found = _REFERENCE.fullmatch(name)
    if found is None:
        raise ContainerError(
            f"{name!r} is no name of an image",
            "Write [registry/]name[:tag] or [registry/]name@sha256:..., in lower case, for example "
            "ubuntu:22.04 or registry.example.com/team/train:3; or oci:/directory:tag.",
        )
    host, path = found["host"] or "", found["path"]
    if host and not re.search(r"[.:\[]|^localhost$", host):
        host, path = "", f"{host}/{path}"
    if host in _HUB_NAMES:
        host = HUB
    given = bool(host)
    if not host:
        host, _, folder = (server or HUB).partition("/")
        if host == HUB and not folder and "/" not in path:
            folder = "library"
        path = f"{folder}/{path}" if folder else path
    # A digest names the image; the runtimes do not take a tag beside it.
    end = f"@{found['digest']}" if found["digest"] else f":{found['tag'] or 'latest'}"
    full = f"{host}/{path}{end}"
    local = () if given or server else (f"localhost/{found['path']}{end}",)
    return full, host, (full, *local)


def _layout(name: str, expand: Callable[[str], str], shm_size: str) -> Wanted:
    folder, colon, tag = expand(name.removeprefix(OCI)).rpartition(":")
    if not colon or "/" in tag:
        folder, tag = f"{folder}{colon}{tag}", ""
    if not folder.startswith("/"):
        raise ContainerError(
            f"{name!r} is no directory with an image",
            "Write oci:/directory:tag, with an absolute path or one that begins with $AZ_BATCHAI_MOUNT_ROOT.",
        )
    return Wanted(name=name, folder=folder.rstrip("/") or "/", tag=tag, shm_size=shm_size)
