"""The step of an attempt that builds its container: image, ground, and the runner's way in."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from trainshed.resources import directories
from trainshed.resources.reasons import ReasonCode
from trainshed.runner import environment, hosts, layout, trees
from trainshed.runner.containers import cgroups, choice, layouts, stage, stores
from trainshed.runner.containers.apptainer import Commanded
from trainshed.runner.containers.building import Ground, passed_environment
from trainshed.runner.containers.errors import ContainerError
from trainshed.runner.containers.hands import Entered
from trainshed.runner.containers.helper import ask
from trainshed.runner.containers.settings import Bind
from trainshed.runner.containers.wanted import PASSWORD, Wanted, wanted
from trainshed.runner.failure import AttemptEnded, failed
from trainshed.runner.node import Node

#: Seconds that an engine which keeps the container has to remove it; it ends by itself otherwise.
_REMOVAL_SECONDS = 20.0
_MARK_VARIABLE = "TRAINSHED_NODE_MARK"


class Standing:
    """The container of an attempt, from when its image is fetched."""

    def __init__(self, work: str) -> None:
        self._work = work
        #: The command that removes it where something else than the runner keeps it.
        self.removal: list[str] = []
        self.hands: Entered | Commanded | None = None

    def close(self) -> None:
        """Its mounts end with its last process then. The PID namespace is still there: nothing can be started later."""
        if self.hands is not None:
            self.hands.close()
        if self.removal:
            with suppress(OSError, subprocess.TimeoutExpired):
                subprocess.run(
                    self.removal,
                    env=passed_environment(),
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    check=False,
                    timeout=_REMOVAL_SECONDS,
                )
            self.removal = []

    def remove(self) -> None:
        """What processes wrote in it beside the job's directories."""
        with suppress(OSError):
            trees.empty(self._work)


def start(node: Node) -> None:
    """Where the job asks for a container: build it; afterwards ``node.hands`` are its root. Raises AttemptEnded."""
    settings = node.spec.properties.get("containerSettings")
    if not settings:
        return
    try:
        asked = wanted(
            settings, node.private.get(PASSWORD, ""), lambda text: directories.expand(text, node.environment)
        )
        _start(node, asked)
    except ContainerError as error:
        _open_log(node)
        raise _failed(node, settings, error) from error
    except OSError as error:
        _open_log(node)
        words = f"{error.strerror or error} {error.filename or ''}".strip()
        told = ContainerError("the container cannot be built", "See `trainshed doctor` on the node.", words)
        raise _failed(node, settings, told) from error


def _open_log(node: Node) -> None:
    """Without a container the log is opened on the node, so that what happened can be read there too."""
    with suppress(AttemptEnded):
        layout.make_outputs(node.spec, node.environment, node.hands)
        node.open_execution_log()


def _start(node: Node, asked: Wanted) -> None:
    spec = node.spec
    node.log.write(f"container: preparing {asked.name}")
    _refuse_unreachable_mounts(node)
    ground = _ground(node, asked)
    node.container = standing = Standing(ground.work)
    if asked.folder:
        ground = replace(ground, archive=layouts.take(node, asked, ground.work))
    told, descriptors = ask(node, lambda: choice.builder(ground).build())
    standing.removal = told.get("remove", [])
    assert node.isolation is not None
    death_signal = node.isolation.child_death_signal
    if "program" in told:
        node.hands = standing.hands = Commanded(tuple(told["program"]), death_signal)
    else:
        namespaces = dict(zip(told["kinds"], descriptors, strict=True))
        node.root_inside = True
        node.hands = standing.hands = Entered(namespaces, told["shell"], death_signal)
        variables = dict(line.split("=", 1) for line in told["environment"] if "=" in line)
        container = environment.Container(variables, told["shell"])
        node.environment = environment.job_environment(spec, node.secrets, container)
    node.image = {"image": asked.name, "digest": told["digest"]}
    node.log.write(f"container: image {asked.name}, digest {told['digest'] or 'unknown'}, id {told['id']}")
    node.log.write(f"container: made by {told['made_by']}; shell {told['shell']}")


def _refuse_unreachable_mounts(node: Node) -> None:
    """What a job's user mounts in user space serves only those in the user namespace that it was mounted in."""
    spec = node.spec
    volumes = (*spec.volumes, *spec.cluster_volumes)
    if spec.view is not None and any(volume.kind == "unmanagedFileSystems" for volume in volumes):
        raise ContainerError(
            "the mount commands of unmanagedFileSystems and a container of its own user cannot be had together",
            "Mount the file system as another kind of volume, or leave containerSettings out.",
        )


def _ground(node: Node, asked: Wanted) -> Ground:
    """Raises ContainerError, OSError."""
    spec = node.spec
    user = spec.view.user if spec.view else None
    state = Path(spec.directories.state)
    images = spec.directories.images or str(state / "images")
    work = Path(spec.directories.containers or state / "container")
    work.mkdir(mode=0o700, parents=True, exist_ok=True)
    trees.empty(str(work))
    others = 0
    if user is not None and user.others and stage.exist(user.others, stage.OTHERS):
        others = user.others
    return Ground(
        wanted=asked,
        stores=stores.of(images, user),
        work=str(work),
        binds=tuple(_binds(node)),
        host_name=node.host.name,
        gpus=tuple(filter(None, (spec.gpu_devices or ("",) * len(spec.hosts))[spec.node_index].split(","))),
        owner=None if user is None else user.uid,
        others=others,
        group=cgroups.group_beside(f"{os.environ.get(_MARK_VARIABLE, 'node')}-{node.host.node_id}"),
    )


def _binds(node: Node) -> list[Bind]:
    """The job's directories, at their own paths, and the hosts file. Raises OSError."""
    spec = node.spec
    if spec.view is not None:
        folders = [spec.view.shared, *spec.view.shown]
    else:
        folders = [spec.directories.mount_root, spec.directories.job_temp_root, layout.root_of_shared(spec)]
        for folder in folders:
            Path(folder).mkdir(parents=True, exist_ok=True)
        folders += _outside(node, folders)
    found = [Bind(folder, folder) for folder in dict.fromkeys(folders)]
    return [*found, Bind(hosts.write(spec.hosts, spec.directories.state), hosts.HOSTS_FILE, read_only=True)]


def _outside(node: Node, folders: list[str]) -> list[str]:
    """Output directories that lie elsewhere on the node: they are made there, and the container has them too."""
    wanted_too = layout.output_folders(node.spec, node.environment).values()
    found = [path for path in wanted_too if path.startswith("/") and not _below(path, folders)]
    for path in found:
        node.inside.make_directory(path)
    return found


def _below(path: str, folders: list[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def _failed(node: Node, settings: dict[str, Any], error: ContainerError) -> AttemptEnded:
    image = str((settings.get("imageSourceRegistry") or {}).get("image", ""))
    said = f" ({error.said})" if error.said else ""
    details = {"imageName": image, "node": node.host.name}
    if error.said:
        details["message"] = error.said
    return failed(
        ReasonCode.CONTAINER_FAILED,
        f"The container {image} cannot be started on node {node.host.name}: {error.what}{said}. {error.way_out}",
        details,
    )
