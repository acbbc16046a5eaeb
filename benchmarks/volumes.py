"""Throughput of each kind of volume beside the node's own disk: 200 MB written, flushed, and read after a new mount."""

from __future__ import annotations

import os
import sys

from benchmarks.jobs import cluster_id
from benchmarks.service import Bench, running_service
from benchmarks.storage import MB, Place, of_the_service, storage

SMALL = 200
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


def report() -> None:
    """Print the figures, or why there are none."""
    if os.geteuid() != 0:
        print("volumes: not measured, only root may mount")
        return
    with storage() as made, running_service(1, files=made.files) as bench:
        disk = Place("disk of the node", path="$AZ_BATCHAI_MOUNT_ROOT")
        print(f"volumes, {MB} MB and {SMALL} files of 4 KiB:")
        print(f"  {'':18}{'mount s':>9}{'write MB/s':>12}{'read MB/s':>12}{'small files s':>15}{'flush s':>9}")
        for place in (disk, *of_the_service(bench.client), *made.places):
            print(f"  {place.name:18}{_measured(bench, place)}", flush=True)


def _measured(bench: Bench, place: Place) -> str:
    if place.missing:
        return f"  not installed: {place.missing}"
    written, small, flush = f"{'-':>12}", f"{'-':>15}", f"{'-':>9}"
    if place.written:
        (write_seconds, small_seconds), _, flush_seconds = _run(bench, place, "write")
        written, small, flush = f"{MB / write_seconds:12.0f}", f"{small_seconds:15.2f}", f"{flush_seconds:9.2f}"
    (read_seconds,), mount_seconds, _ = _run(bench, place, "read")
    return f"{mount_seconds:9.2f}{written}{place.megabytes / read_seconds:12.0f}{small}{flush}"


def _run(bench: Bench, place: Place, what: str) -> tuple[list[float], float, float]:
    """Seconds of the job's steps, before them (the mounting), and from its end to that of the attempt (the flush)."""
    name = f"{what}-{place.name}".replace(" ", "-").replace(",", "")
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
    started = next(line for line in log if " started; " in line)
    ended = next(line for line in log if "ended with exit code" in line)
    steps = [float(word) for word in stdout.read_text().split()]
    return steps, _seconds(started) - _seconds(log[0]), _seconds(log[-1]) - _seconds(ended)


def _seconds(line: str) -> float:
    """Since midnight, of a line of the execution log."""
    hours, minutes, seconds = line.split("T", 1)[1].split("Z", 1)[0].split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
