"""Throughput of each kind of volume beside the node's own disk: 200 MB written, flushed, and read after a new mount."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.volumes import servers

from benchmarks.jobs import cluster_id
from benchmarks.service import Bench, running_service

MB, SMALL = 200, 200
_JOB = f"""
import os, sys, time
os.chdir(sys.argv[2])
block = os.urandom(1 << 20)
def timed(act):
    began = time.monotonic()
    act()
    return time.monotonic() - began
def write():
    with open("big", "wb") as file:
        for _ in range({MB}):
            file.write(block)
def read():
    with open("big", "rb") as file:
        while file.read(1 << 20):
            pass
def small():
    os.makedirs("small", exist_ok=True)
    for number in range({SMALL}):
        with open(f"small/{{number}}", "wb") as file:
            file.write(block[:4096])
steps = [write, small] if sys.argv[1] == "write" else [read]
print(*[timed(step) for step in steps])
"""


@dataclass
class Place:
    """A kind of volume: where a job finds it, and its entry of mountVolumes."""

    name: str
    path: str
    volumes: dict[str, Any] = field(default_factory=dict)


def report() -> None:
    """Print the figures, or why there are none."""
    if os.geteuid() != 0:
        print("volumes: not measured, only root may mount")
        return
    with places() as (files, found), running_service(1, files=files) as bench:
        bench.client.storage_accounts.create("bench")
        key = bench.client.storage_accounts.keys("bench")[0].get("value")
        embedded = {"accountName": "bench", "azureFileUrl": "https://bench.file.core.windows.net/share"}
        entry = {**embedded, "credentials": {"accountKey": key}, "relativeMountPath": "v"}
        disk = Place("disk of the node", "$AZ_BATCHAI_MOUNT_ROOT")
        found.insert(0, Place("embedded", "$AZ_BATCHAI_JOB_MOUNT_ROOT/v", {"azureFileShares": [entry]}))
        print(f"volumes, {MB} MB and {SMALL} files of 4 KiB:")
        print(f"  {'':18}{'write MB/s':>12}{'read MB/s':>12}{'small files s':>15}{'flush s':>9}")
        for place in (disk, *found):
            _measure(bench, place)


def _measure(bench: Bench, place: Place) -> None:
    (write, small), flush = _run(bench, place, "write")
    (read,), _ = _run(bench, place, "read")
    print(f"  {place.name:18}{MB / write:12.0f}{MB / read:12.0f}{small:15.2f}{flush:9.2f}")


def _run(bench: Bench, place: Place, what: str) -> tuple[list[float], float]:
    """Seconds of the job's steps, and between its end and that of the attempt: the flush."""
    name = f"{what}-{place.name}".replace(" ", "-")
    bench.client.jobs.create(
        name,
        {
            "nodeCount": 1,
            "cluster": {"id": cluster_id(bench.client)},
            "customToolkitSettings": {"commandLine": f"{sys.executable} -c '{_JOB}' {what} {place.path}"},
            "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/logs",
            "mountVolumes": place.volumes,
        },
        wait=False,
    )
    job = bench.client.jobs.wait(name, interval=0.05)
    if job.execution_state.value != "succeeded":
        raise RuntimeError(f"{name}: {job.json}")
    segment = job.properties["jobOutputDirectoryPathSegment"]
    (stdout,) = bench.home.glob(f"clusters/*/mounts/logs/{segment}/stdouterr/stdout.txt")
    log = (stdout.parent / "execution.log").read_text().splitlines()
    ended = next(line for line in log if "ended with exit code" in line)
    return [float(word) for word in stdout.read_text().split()], _seconds(log[-1]) - _seconds(ended)


def _seconds(line: str) -> float:
    """Since midnight, of a line of the execution log."""
    hours, minutes, seconds = line.split("T", 1)[1].split("Z", 1)[0].split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


@contextmanager
def places() -> Iterator[tuple[dict[str, str], list[Place]]]:
    """Files for the home, and a place for each server that can be started here."""
    endpoints: dict[str, dict[str, str]] = {}
    found: list[Place] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trainshed-bench-servers-")))
        for kind, start in (("file", servers.samba), ("blob", servers.azurite)):
            (folder / kind).mkdir()
            try:
                server: Any = stack.enter_context(start(folder / kind))
            except pytest.skip.Exception as why:
                print(f"volumes: {kind} is not measured: {why}")
                continue
            common = {"relativeMountPath": "v"}
            if kind == "file":
                endpoints[servers.SMB_USER] = {"file": server.address}
                url = "https://x.file.core.windows.net/data"
                entry = {"accountName": servers.SMB_USER, "azureFileUrl": url, **common}
                volumes = {"azureFileShares": [{**entry, "credentials": {"accountKey": servers.SMB_PASSWORD}}]}
            else:
                server.make_container("data")
                endpoints[servers.BLOB_ACCOUNT] = {"blob": server.endpoint}
                entry = {"accountName": servers.BLOB_ACCOUNT, "containerName": "data", **common}
                volumes = {"azureBlobFileSystems": [{**entry, "credentials": {"accountKey": servers.BLOB_KEY}}]}
            name = "Azure Files" if kind == "file" else "Azure Blob"
            found.append(Place(name, "$AZ_BATCHAI_JOB_MOUNT_ROOT/v", volumes))
        yield {"storage-endpoints.json": json.dumps(endpoints)}, found
