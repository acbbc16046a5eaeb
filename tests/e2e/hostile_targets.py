"""What a hostile job is told of the service: more than it could find out."""

from __future__ import annotations

from typing import Any

from tests.support.live_service import LiveService
from trainshed.client import Client


def of(live: LiveService, neighbour: Client, marker: str) -> dict[str, Any]:
    """Paths, processes and addresses of the service and of the job ``calm`` of the neighbour."""
    job = neighbour.jobs.get("calm")
    segment = job.properties["jobOutputDirectoryPathSegment"]
    (folder,) = (live.home / "clusters").glob(f"*/mounts/logs/{segment}")
    nodes = [path for path in (live.home / "nodes").iterdir() if (path / "jobs/neighbour").exists()]
    return {
        "home": str(live.home),
        "above": [str(parent) for parent in live.home.parents if len(parent.parts) > 2],
        "pids": [live.pid, live.daemon_pid()],
        "foreign": [str(folder), f"{folder}/stdouterr/stdout.txt", *(f"{path}/jobs" for path in nodes)],
        "runners": [node.get("address") for node in neighbour.clusters.nodes("c")],
        "marker": marker,
        "api": f"{live.told()['url']}/subscriptions?api-version=2018-05-01",
    }
