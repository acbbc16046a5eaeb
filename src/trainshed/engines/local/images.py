"""Fetches the images that a cluster wants on its nodes before any job (nodeSetup.containerImages, 2026-11-01)."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainshed.engines.local.messages import encode
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.resources.users import JobUser
from trainshed.runner import linux, trees
from trainshed.runner.containers import cgroups, choice, stores
from trainshed.runner.containers.building import Ground
from trainshed.runner.containers.errors import ContainerError
from trainshed.runner.containers.helper import wait_for
from trainshed.runner.containers.wanted import OCI, wanted
from trainshed.runner.ground import reset_child

MEMBER = "containerImages"


def fetch_all(
    node_id: str,
    images: list[Mapping[str, Any]],
    private: Mapping[str, str],
    places: tuple[str, str],
    user: JobUser | None,
    answer: socket.socket,
) -> None:
    """In a fresh fork: fetch one after another. Says ``{"preparing": reason}`` for each, at last ``{"images": reason or
    null}``. ``places``: the folder of all stores, and one for temporary files of this node.
    """
    reset_child()
    os.closerange(3, answer.fileno())
    os.closerange(answer.fileno() + 1, 1 << 20)
    os.setsid()
    linux.set_parent_death_signal(signal.SIGKILL)
    failed = None
    for number, registry in enumerate(images):
        text = f"The node fetches image {number + 1} of {len(images)}: {registry.get('image')}."
        answer.sendall(encode({"preparing": Reason(ReasonCode.FETCHING_IMAGES, text, {"node": node_id}).to_json()}))
        password = private.get(f"/nodeSetup/{MEMBER}/{number}/credentials/password", "")
        failed = _fetch(node_id, registry, password, places, user)
        if failed is not None:
            break
    answer.sendall(encode({"images": failed.to_json() if failed else None}))


def _fetch(
    node_id: str, registry: Mapping[str, Any], password: str, places: tuple[str, str], user: JobUser | None
) -> Reason | None:
    name = str(registry.get("image"))
    try:
        if name.startswith(OCI):
            raise ContainerError("it is a directory, and only images of registries are fetched ahead", "Leave it out.")
        asked = wanted({"imageSourceRegistry": registry}, password)
        Path(places[1]).mkdir(mode=0o700, parents=True, exist_ok=True)
        trees.empty(places[1])
        ground = Ground(
            wanted=asked,
            stores=stores.of(places[0], user),
            work=places[1],
            binds=(),
            host_name="",
            gpus=(),
            owner=None if user is None else user.uid,
            others=0,
            group=cgroups.group_beside(node_id),
        )
        wait_for(lambda: choice.builder(ground).fetch())
        trees.empty(places[1])
    except (ContainerError, OSError) as error:
        told = error if isinstance(error, ContainerError) else ContainerError("it cannot be fetched", "", str(error))
        said = f" ({told.said})" if told.said else ""
        return Reason(
            ReasonCode.CONTAINER_FAILED,
            f"Node {node_id} cannot fetch the image {name}: {told.what}{said}. {told.way_out} Then resize the cluster "
            "to 0 and back.",
            {"imageName": name, "node": node_id},
        )
    return None
