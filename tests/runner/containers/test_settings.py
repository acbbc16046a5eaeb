"""What runtimes are told, and what their messages mean."""

from __future__ import annotations

import tomllib

import pytest

from trainshed.runner.containers.errors import explain
from trainshed.runner.containers.settings import (
    Bind,
    Runtime,
    bind_arguments,
    choose_runtime,
    containers_conf,
    gpu_arguments,
    storage_conf,
)

BOTH = {"crun": "/usr/bin/crun", "runc": "/usr/sbin/runc"}


@pytest.mark.parametrize(
    ("installed", "versions", "name"),
    [
        (BOTH, {1, 2}, "runc"),
        (BOTH, {1}, "runc"),
        (BOTH, {2}, "crun"),
        ({"crun": "/usr/bin/crun"}, {1, 2}, "crun"),
        ({"runc": "/usr/sbin/runc"}, {2}, "runc"),
    ],
)
def test_runtime_fits_the_control_groups(installed: dict[str, str], versions: set[int], name: str) -> None:
    assert choose_runtime(installed, versions) == Runtime(name, installed[name])


def test_no_runtime() -> None:
    assert choose_runtime({}, {2}) is None


@pytest.mark.parametrize(
    ("files", "processes", "pid_max", "limits"),
    [
        (20000, 96365, 32768, ["nofile=20000:20000", "nproc=32768:32768"]),
        (-1, -1, 4194304, ["nofile=1048576:1048576", "nproc=4194304:4194304"]),
        (2**30, 100, 32768, ["nofile=1048576:1048576", "nproc=100:100"]),
    ],
)
def test_limits_are_those_that_may_be_set(files: int, processes: int, pid_max: int, limits: list[str]) -> None:
    conf = tomllib.loads(containers_conf(Runtime("runc", "/usr/sbin/runc"), files, processes, pid_max))
    assert conf["containers"]["default_ulimits"] == limits
    assert conf["engine"]["runtimes"] == {"runc": ["/usr/sbin/runc"]}
    assert conf["engine"]["lock_type"] == "file"


def test_stores() -> None:
    conf = tomllib.loads(storage_conf("overlay", "/g", "/r", ["/a", "/b"]))
    assert conf["storage"]["options"]["additionalimagestores"] == ["/a", "/b"]


@pytest.mark.parametrize(
    ("program", "gpus", "devices", "arguments"),
    [
        ("podman", (), ("/dev/nvidiactl",), []),
        (
            "podman",
            ("GPU-1", "GPU-2"),
            ("/dev/nvidiactl",),
            ["--device=nvidia.com/gpu=GPU-1", "--device=nvidia.com/gpu=GPU-2"],
        ),
        ("docker", ("GPU-1", "GPU-2"), ("/dev/nvidiactl",), ["--gpus", '"device=GPU-1,GPU-2"']),
        ("podman", ("0",), ("/dev/kfd", "/dev/dri"), ["--device=/dev/kfd", "--device=/dev/dri"]),
        ("docker", ("0",), ("/dev/kfd",), ["--device=/dev/kfd"]),
        ("podman", ("GPU-1",), ("/dev/kfd", "/dev/dri", "/dev/nvidiactl"), ["--device=nvidia.com/gpu=GPU-1"]),
    ],
)
def test_gpus(program: str, gpus: tuple[str, ...], devices: tuple[str, ...], arguments: list[str]) -> None:
    assert gpu_arguments(program, gpus, devices) == arguments


def test_binds() -> None:
    assert bind_arguments([Bind("/a", "/b"), Bind("/c", "/d", read_only=True)]) == [
        "--volume",
        "/a:/b:rw,rbind,rprivate,nosuid,nodev",
        "--volume",
        "/c:/d:ro,rbind,rprivate,nosuid,nodev",
    ]


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ("Error: initializing source docker://x: reading manifest 1 in x: manifest unknown", "no such image"),
        ("requested access to the resource is denied", "no such image"),
        ("unable to retrieve auth token: invalid username/password: unauthorized", "refuses the credentials"),
        ("authentication required", "refuses the credentials"),
        (
            "pinging container registry 127.0.0.1:9: dial tcp 127.0.0.1:9: connect: connection refused",
            "cannot be reached",
        ),
        ("dial tcp: lookup registry.invalid: no such host", "cannot be reached"),
        ("choosing image instance: no image found in manifest list for architecture arm64", "architecture"),
        ("Digest did not match, expected sha256:1, got sha256:2", "not the one that the digest names"),
        ("writing blob: no space left on device", "no room"),
        (
            "'overlay' is not supported over overlayfs, a mount_program is required: "
            "backing file system is unsupported for this graph driver",
            "overlay file systems cannot be made",
        ),
        ("something new", "the container runtime failed"),
    ],
)
def test_messages_of_runtimes(said: str, what: str) -> None:
    error = explain(said)
    assert what in error.what
    assert error.way_out
    assert error.said


def test_messages_lose_noise_and_secrets() -> None:
    said = 'Trying to pull x...\ntime="2026" level=error msg="bad p4ss"\nError: bad p4ss\nError: bad p4ss\n'
    assert explain(said, ["p4ss", ""]).said == '"bad ***" bad ***'
