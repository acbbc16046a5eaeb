"""Jobs a second beside ``xargs -P2``, latency from submit to the first line, and what the idle service costs."""

from __future__ import annotations

import statistics
import subprocess
import time
from typing import Any

import psutil

from benchmarks.service import Bench, environment, wait_for
from trainshed.client import Client

#: No-op jobs of a throughput run, and single jobs of the latency run.
JOBS = 200
PROBES = 60


def properties(command: str, cluster: str) -> dict[str, Any]:
    """A job of one node that runs ``command``."""
    return {
        "nodeCount": 1,
        "cluster": {"id": cluster},
        "customToolkitSettings": {"commandLine": command},
        "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/logs",
    }


def xargs_seconds(jobs: int = JOBS) -> float:
    """The floor: the same commands by two hands, with no record of anything."""
    started = time.perf_counter()
    subprocess.run(
        ["xargs", "-P2", "-I{}", "bash", "-c", "true"],
        input="\n".join(map(str, range(jobs))),
        text=True,
        check=True,
        env=environment(),
    )
    return time.perf_counter() - started


def makespan(bench: Bench, jobs: int = JOBS, *, tag: str) -> float:
    """Seconds from the first submission until all of ``jobs`` no-op jobs have succeeded, each stored durably."""
    client, cluster = bench.client, cluster_id(bench.client)
    names = [f"{tag}-{index}" for index in range(jobs)]
    started = time.perf_counter()
    for name in names:
        client.jobs.create(name, properties("true", cluster), wait=False)
    client.jobs.wait(names[-1], interval=0.1, timeout=120)
    # The last of the queue has ended; the one before it may be ending on the other node.
    wait_for(lambda: all(client.jobs.get(name).final for name in names[-4:]), "the last jobs")
    seconds = time.perf_counter() - started
    states = {job.name: job.execution_state.value for job in client.jobs.list() if job.name.startswith(f"{tag}-")}
    assert len(states) == jobs and set(states.values()) == {"succeeded"}, "not every job succeeded"
    return seconds


def latencies(bench: Bench, probes: int = PROBES, *, tag: str = "probe") -> list[float]:
    """Milliseconds from the call that submits to the first line of user code (its own clock), one job at a time."""
    client, cluster = bench.client, cluster_id(bench.client)
    found = []
    for index in range(probes):
        name = f"{tag}-{index}"
        submitted = time.time_ns()
        client.jobs.create(name, properties("date +%s%N", cluster), wait=False)
        job = client.jobs.wait(name, interval=0.02, timeout=60)
        assert job.execution_state.value == "succeeded", job
        segment = job.properties["jobOutputDirectoryPathSegment"]
        log = next((bench.home / "clusters").glob(f"*/mounts/logs/{segment}/stdouterr/stdout.txt"))
        found.append((int(log.read_text()) - submitted) / 1e6)
    return found


def quick(bench: Bench) -> tuple[float, float]:
    """Jobs a second (best of three), and milliseconds from submission to the first line (median)."""
    whole = min(makespan(bench, tag=f"q{index}") for index in range(3))
    return JOBS / whole, statistics.median(latencies(bench, 30, tag="quick"))


def compare_isolated(plain: tuple[float, float], isolated: tuple[float, float]) -> None:
    """Print what it costs that jobs run as a user of their own."""
    print("jobs as a user of their own, beside jobs as the service's user")
    print(f"  {isolated[0]:.0f} beside {plain[0]:.0f} jobs/s, ratio {isolated[0] / plain[0]:.2f} (aim 0.9)")
    print(f"  first line after {isolated[1]:.1f} beside {plain[1]:.1f} ms (median)")


def cluster_id(client: Client) -> str:
    """ARM id of the cluster ``bench``."""
    return str(client.clusters.get("bench").id)


def idle_cost(bench: Bench, seconds: float = 5.0) -> tuple[float, float]:
    """Memory in MB (proportional set size of all processes together) and CPU in percent of a core, at rest."""
    members = bench.processes()
    before = _cpu_seconds(members)
    time.sleep(seconds)
    cpu = 100 * (_cpu_seconds(members) - before) / seconds
    memory = sum(process.memory_full_info().pss for process in members) / 2**20
    return memory, cpu


def _cpu_seconds(members: list[psutil.Process]) -> float:
    return sum(times.user + times.system for times in (process.cpu_times() for process in members))


def report(bench: Bench) -> None:
    """Print the figures of this module."""
    memory, cpu = idle_cost(bench)
    milliseconds = latencies(bench)
    rounds = [(xargs_seconds(), makespan(bench, tag=f"r{index}")) for index in range(3)]
    floor, whole = min(rounds, key=lambda pair: pair[1])
    tail = statistics.quantiles(milliseconds, n=100, method="inclusive")[98]
    print(f"jobs ({JOBS} x true on two nodes, each submission fsynced before it is answered; best of {len(rounds)})")
    print(f"  trainshed        {whole:6.2f} s   {JOBS / whole:6.0f} jobs/s")
    print(f"  xargs -P2        {floor:6.2f} s   {JOBS / floor:6.0f} jobs/s")
    print(f"  ratio            {whole / floor:6.1f}     overhead {1000 * (whole - floor) / JOBS:.1f} ms a job (aim 10)")
    print("  for comparison, a job: tuned Slurm 23 ms, Ray Jobs 630 ms, HyperQueue without a durable record 3 ms")
    print(f"submit to first line ({len(milliseconds)} jobs, one at a time)")
    print(f"  median {statistics.median(milliseconds):.1f} ms (aim 60)   p99 {tail:.1f} ms")
    print("idle, service and node daemon with two nodes together")
    print(f"  memory {memory:.0f} MB (aim 150)   CPU {cpu:.1f} % of a core")
