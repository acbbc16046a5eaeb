"""What a container runtime is told, computed from what the node permits: pure (platform facts in, arguments out)."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass

#: What root may do in a container, as docker and podman have it by default, without making devices and raw packets.
CAPABILITIES = frozenset({0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 31})
#: What podman wants to set where it may; what it may not makes it fail.
_FILES, _PROCESSES = 1_048_576, 4_194_304
NVIDIA_CONTROL, ROCM_CONTROL, RENDER_NODES = "/dev/nvidiactl", "/dev/kfd", "/dev/dri"


@dataclass(frozen=True, slots=True)
class Bind:
    """A directory or file of the node that the container has too."""

    source: str
    target: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Runtime:
    """The OCI runtime that podman uses."""

    name: str
    path: str


def choose_runtime(installed: dict[str, str], cgroup_versions: Collection[int]) -> Runtime | None:
    """crun where version 2 is all there is: elsewhere crun 1.8 drops the controllers and fails, and runc does not.

    ``installed``: name -> path. None: there is none.
    """
    order = ("runc", "crun") if 1 in cgroup_versions else ("crun", "runc")
    return next((Runtime(name, installed[name]) for name in order if name in installed), None)


def containers_conf(runtime: Runtime, files: int, processes: int, pid_max: int) -> str:
    """containers.conf(5): limits that may be set here (``-1``: any), and nothing kept outside of the given folders.

    podman asks for more open files and processes than some machines permit even root, and then fails.
    """
    most_files = min(_FILES, files) if files >= 0 else _FILES
    most_processes = min(_PROCESSES, pid_max, processes if processes >= 0 else _PROCESSES)
    limits = [f"nofile={most_files}:{most_files}", f"nproc={most_processes}:{most_processes}"]
    return (
        f"[containers]\ndefault_ulimits = {json.dumps(limits)}\npids_limit = 0\n"
        f'[engine]\nruntime = "{runtime.name}"\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\n'
        f'lock_type = "file"\n[engine.runtimes]\n{runtime.name} = ["{runtime.path}"]\n'
    )


def storage_conf(driver: str, graph: str, run: str, others: Sequence[str]) -> str:
    """storage.conf(5); ``others`` are stores that are looked into and never written."""
    return (
        f'[storage]\ndriver = "{driver}"\ngraphroot = "{graph}"\nrunroot = "{run}"\n'
        f"[storage.options]\nadditionalimagestores = {json.dumps(list(others))}\n"
    )


def bind_arguments(binds: Sequence[Bind]) -> list[str]:
    """``--volume`` for each."""
    return [
        argument
        for bind in binds
        for argument in (
            "--volume",
            f"{bind.source}:{bind.target}:{'ro' if bind.read_only else 'rw'},rbind,rprivate,nosuid,nodev",
        )
    ]


def gpu_arguments(program: str, gpus: Sequence[str], devices: Collection[str]) -> list[str]:
    """How the node's GPUs (as CUDA_VISIBLE_DEVICES names them) are handed to a container of that program.

    ``devices``: which of the control devices the node has.
    """
    if not gpus:
        return []
    if ROCM_CONTROL in devices and NVIDIA_CONTROL not in devices:
        return [f"--device={path}" for path in (ROCM_CONTROL, RENDER_NODES) if path in devices]
    if program == "docker":
        return ["--gpus", f'"device={",".join(gpus)}"']
    return [f"--device=nvidia.com/gpu={gpu}" for gpu in gpus]
