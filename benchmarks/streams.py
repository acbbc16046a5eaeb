"""What following costs: a job that writes a log of 1 GB, with nobody and with somebody who reads it meanwhile."""

from __future__ import annotations

import statistics
import sys

import psutil

from benchmarks.jobs import cluster_id
from benchmarks.service import Bench
from trainshed.client import Client

#: Bytes of the log; how long, in seconds, the job's own work for it takes; pairs of runs.
SIZE, WORK, PAIRS = 1 << 30, 8.0, 3

#: A job that works and prints, and says at the end how long it took. Its pace is its own work's, as a training's is.
_JOB = f"""
import sys, time
line = b"epoch 1 step 000000 loss 0.123456 accuracy 0.987654 images/s 12345\\n"
block = line * (65536 // len(line))
count, began = {SIZE} // len(block), time.monotonic()
work = {WORK} / count
for number in range(count):
    until = time.thread_time() + work
    sys.stdout.buffer.write(block)
    while time.thread_time() < until:
        pass
sys.stdout.buffer.flush()
print(f"\\nseconds {{time.monotonic() - began}}")
"""


def seconds_and_memory(bench: Bench, name: str, *, follow: bool) -> tuple[float, float]:
    """The job's own seconds, and by how many MB the service's memory grew at most."""
    client, service = bench.client, psutil.Process(bench.process.pid)
    client.jobs.create(
        name,
        {
            "nodeCount": 1,
            "cluster": {"id": cluster_id(client)},
            "customToolkitSettings": {"commandLine": f"{sys.executable} -c '{_JOB}'"},
            "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/logs",
        },
        wait=False,
    )
    before = most = service.memory_info().rss
    tail = b""
    if follow:
        for piece in client.jobs.stream_log(name):
            tail = (tail + piece)[-100:]
            most = max(most, service.memory_info().rss)
    else:
        job = client.jobs.wait(name, interval=1.0, timeout=120)
        assert job.execution_state.value == "succeeded", job
        tail = _tail(client, name)
    return float(tail.split()[-1]), (most - before) / 2**20


def _tail(client: Client, name: str) -> bytes:
    # The log is a little shorter than SIZE: blocks are whole lines.
    return b"".join(client.jobs.stream_log(name, offset=SIZE - (1 << 18), follow=False))


def report(bench: Bench) -> None:
    """Print the figures of this module."""
    pairs = []
    grew = 0.0
    for number in range(PAIRS):
        alone, _ = seconds_and_memory(bench, f"alone-{number}", follow=False)
        followed, memory = seconds_and_memory(bench, f"followed-{number}", follow=True)
        pairs.append((alone, followed))
        grew = max(grew, memory)
    slower = statistics.median(followed / alone - 1 for alone, followed in pairs)
    print(f"a log of {SIZE / 2**30:.0f} GB, written in {pairs[0][0]:.1f} s of work and followed meanwhile")
    print(f"  job slower by {100 * slower:.1f} % (aim 5), service's memory grew by {grew:.0f} MB")
