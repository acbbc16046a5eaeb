"""What no schema says of a body: one toolkit, names once, bounds that agree, references to what may exist."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

from tests.specification.rules import TOOLS

Json = dict[str, Any]


def fitted(body: Json, dice: random.Random, reference: Callable[[str], str], most_nodes: int) -> Json:
    """The body, changed as little as needed.

    ``reference`` gives the id of a ``cluster`` or ``fileServer``; clusters get at most ``most_nodes`` nodes.
    """
    # NUL is valid JSON that nothing can store; names of tags are the only made-up text that may have it.
    body = json.loads(json.dumps(body).replace("\\u0000", "0"))
    properties = body.get("properties")
    if not isinstance(properties, dict):
        return body
    setup = properties.get("nodeSetup") or {}
    if "nodeCount" in properties:
        _one_toolkit(properties, dice)
        properties["cluster"]["id"] = reference("cluster")
        if dice.random() < 0.8:
            properties["nodeCount"] = dice.randint(1, 2)
    for volumes in (properties.get("mountVolumes"), setup.get("mountVolumes")):
        entries = [entry for kind in (volumes or {}).values() for entry in kind]
        for number, entry in enumerate(entries):
            entry["relativeMountPath"] += str(number)
            if "fileServer" in entry:
                # A cluster is in its file server's subnet.
                properties.pop("subnet", None)
                entry["fileServer"]["id"] = reference("fileServer")
    for owner in (properties, setup.get("setupTask") or {}):
        named = [*(owner.get("environmentVariables") or []), *(owner.get("secrets") or [])]
        for number, variable in enumerate(named):
            variable["name"] += f"_{number}"
    for directories in (properties.get("inputDirectories"), properties.get("outputDirectories")):
        for number, directory in enumerate(directories or []):
            directory["id"] += f"_{number}"
    _small_scale(properties.get("scaleSettings") or {}, most_nodes)
    return body


def _one_toolkit(job: Json, dice: random.Random) -> None:
    given = [member for member in TOOLS if member in job]
    kept = dice.choice(given) if given else "customToolkitSettings"
    for member in given:
        if member != kept:
            del job[member]
    job.setdefault(kept, {"commandLine": "true"})


def _small_scale(scale: Json, most: int) -> None:
    if "autoScale" in scale:
        low, high = sorted((scale["autoScale"]["minimumNodeCount"], scale["autoScale"]["maximumNodeCount"]))
        scale["autoScale"] = {"minimumNodeCount": min(low, most), "maximumNodeCount": min(high, most)}
    if "manual" in scale:
        scale["manual"]["targetNodeCount"] = min(scale["manual"]["targetNodeCount"], most)
