"""Looks at a Ray cluster for ``trainshed doctor``, in a process of its own, as the bridge is one.

``python -m trainshed.engines.ray.probe ADDRESS DIRECTORY``: one line of JSON, with each node that lives and what is in
the way of using it; or ``{"away": ...}``.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import uuid
from pathlib import Path
from typing import Any

#: Seconds for Ray to start a task on every node.
_PATIENCE = 60.0


def _look(marker: str) -> str:
    """On a node: why it cannot use the directory that the marker is in; empty when it can."""
    import os
    import tempfile

    if not os.path.exists(marker):  # noqa: PTH110 - it is sent to nodes as it is
        return f"does not see the directory {os.path.dirname(marker)} of the service's machine"  # noqa: PTH120
    try:
        with tempfile.NamedTemporaryFile(dir=os.path.dirname(marker)):  # noqa: PTH120
            return ""
    except OSError as error:
        return f"cannot write to {os.path.dirname(marker)}: {error.strerror}"  # noqa: PTH120


def look(address: str, directory: str) -> dict[str, Any]:
    """What is said."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
    except Exception as error:
        return {"away": str(error).strip() or type(error).__name__}
    marker = Path(directory, f".doctor-{uuid.uuid4().hex}")
    marker.touch()
    try:
        task = ray.remote(num_cpus=0, max_retries=0)(_look)
        nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        asked = {
            node["NodeID"]: task.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote(str(marker))
            for node in nodes
        }
        ray.wait(list(asked.values()), num_returns=len(asked), timeout=_PATIENCE)
        return {"version": ray.__version__, "nodes": [_told(node, asked[node["NodeID"]]) for node in nodes]}
    finally:
        marker.unlink()


def _told(node: dict[str, Any], answer: Any) -> dict[str, Any]:
    import ray

    try:
        problem = ray.get(answer, timeout=0)
    except Exception as error:
        problem = f"does not run tasks ({type(error).__name__})"
    resources = node["Resources"]
    own = [name for name in resources if not name.startswith(("node:", "accelerator_type:", "object_store_memory"))]
    return {
        "address": node["NodeManagerAddress"],
        "resources": {name: resources[name] for name in own if name != "memory"},
        "problem": problem,
    }


if __name__ == "__main__":
    print(json.dumps(look(sys.argv[1], sys.argv[2])), flush=True)
    # Without Ray's farewell, which waits for a head that may be gone.
    os._exit(0)
