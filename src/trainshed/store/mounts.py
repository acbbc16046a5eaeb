"""Who mounts a file server: clusters, and jobs that have not ended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, func, select

from trainshed.resources.definition import mounted_file_servers
from trainshed.resources.lifecycle import JOB
from trainshed.store.encoding import from_json
from trainshed.store.tables import clusters, jobs

_FINAL = [state.value for state in JOB.final]
# Which rows may name it; the description itself then tells for certain.
_clusters = select(clusters.c.name, clusters.c.definition).where(
    func.lower(clusters.c.definition).like(bindparam("pattern"), escape="\\")
)
_jobs = select(jobs.c.name, jobs.c.definition).where(
    jobs.c.execution.not_in(_FINAL), func.lower(jobs.c.definition).like(bindparam("pattern"), escape="\\")
)


def users_of_file_server(tx: Connection, key: str) -> list[str]:
    """Clusters and unfinished jobs that mount the file server with this key, as people name them: ``cluster c``."""
    name = key.rpartition("/")[2]
    pattern = "%/fileservers/" + name.replace("\\", "\\\\").replace("_", "\\_").replace("%", "\\%") + "%"
    return [
        *(f"cluster {name}" for name in _mounting(tx.execute(_clusters, {"pattern": pattern}).all(), key)),
        *(f"job {name}" for name in _mounting(tx.execute(_jobs, {"pattern": pattern}).all(), key)),
    ]


def _mounting(rows: Sequence[Any], key: str) -> Iterator[str]:
    for name, text in rows:
        definition = from_json(text)
        volumes = definition.get("mountVolumes") or (definition.get("nodeSetup") or {}).get("mountVolumes")
        if key in mounted_file_servers(volumes):
            yield str(name)
