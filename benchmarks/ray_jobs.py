"""What a job costs on Ray: 200 that do nothing through the engine and the whole service, beside Ray's own ways.

Those are its tasks and its job API. Through the service: ``trainshed serve`` in a home of its own, to which the engine
was added as a user does, gets a job array of 200, and 200 jobs one by one, by its public client.

The cluster is a real one on this machine, a head and two nodes of one CPU. Ray's job API starts a supervisor, an actor,
for every job and the command below that. Its server needs a package that the engine does not (``ray[default]``); an
actor for each job, made by hand, which runs the command as a process and ends, is what is left of it without.
"""

from __future__ import annotations

import asyncio
import importlib.util
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from tests.engines.lab import Lab, cluster_spec
from tests.engines.ray.cluster import RayNodes, why_not
from tests.engines.ray.fixtures import engine_of

from benchmarks.service import AddedEngine, running_service
from benchmarks.through_service import array_seconds, single_seconds

#: Jobs through the engine and as tasks; and jobs with an actor each, which are slow.
JOBS, JOBS_WITH_ACTORS = 200, 20
QUICK_JOBS, QUICK_WITH_ACTORS = 40, 4
#: Runs of each kind through the service.
ROUNDS, QUICK_ROUNDS = 2, 1
#: Seconds that Ray's job server has to start, and a job of its to end.
_SERVER_SECONDS, _JOB_SECONDS = 60.0, 60.0


def report(quick: bool = False) -> None:
    """Print the figures, or why there are none; with ``quick`` of fewer jobs."""
    jobs, with_actors = (QUICK_JOBS, QUICK_WITH_ACTORS) if quick else (JOBS, JOBS_WITH_ACTORS)
    if why := why_not():
        print(f"Ray: {why}")
        return
    nodes = RayNodes()
    try:
        server = job_server(nodes)
        nodes.start_head(*(server[1] if server else ()))
        for _ in range(2):
            # Agents of several machines on one would want the same port.
            nodes.add_node(f"--dashboard-agent-listen-port={_free_port()}")
        nodes.wait_for(2)
        ours = asyncio.run(_ours(nodes, jobs))
        through = _through_service(nodes, jobs, QUICK_ROUNDS if quick else ROUNDS)
        tasks, actors = _bare(nodes, jobs, with_actors)
        api = _job_api(nodes, server[0], with_actors) if server else 0.0
    finally:
        nodes.close()
    slower = f"{api / with_actors / (ours / jobs):.1f} x ours"
    told = f"{1000 * api / with_actors:.0f} ms ({slower})" if server else "not here (pip install 'ray[default]')"
    for what, seconds in through.items():
        name, bare = ("Ray's job API", api) if server else ("an actor a job, as Ray's job API makes,", actors)
        beside = f"{name} takes {bare / with_actors / (seconds / jobs):.1f} x that a job"
        print(
            f"Ray: {jobs} jobs of `true` through the whole service, {what}: {1000 * seconds / jobs:.0f} ms a job "
            f"(median of {QUICK_ROUNDS if quick else ROUNDS}); {beside}"
        )
    print(
        f"Ray: jobs of `true`, two nodes of one CPU: through the engine {1000 * ours / jobs:.0f} ms a job; "
        f"Ray's job API {told}; an actor a job, as that makes, {1000 * actors / with_actors:.0f} ms; "
        f"Ray's tasks {1000 * tasks / jobs:.1f} ms"
    )


def _through_service(nodes: RayNodes, jobs: int, rounds: int) -> dict[str, float]:
    """Seconds that all took (median), by how they were submitted."""
    ways = {"as one job array": array_seconds, "one by one": single_seconds}
    found: dict[str, list[float]] = {what: [] for what in ways}
    with tempfile.TemporaryDirectory() as folder:
        settings = ("--address", nodes.address, "--directory", f"{folder}/ray", "--token_file", str(nodes.token_file))
        with running_service(2, engine=AddedEngine("ray", "boxes", settings)) as bench:
            for number in range(rounds):
                for what in list(ways)[:: -1 if number % 2 else 1]:
                    found[what].append(ways[what](bench, jobs, f"{'array' if 'array' in what else 'single'}-{number}"))
    return {what: median(seconds) for what, seconds in found.items()}


def job_server(nodes: RayNodes) -> tuple[str, tuple[str, ...]] | None:
    """The address of a server of Ray's job API, and what its head is started with; None where it cannot be had."""
    if any(importlib.util.find_spec(name) is None for name in ("aiohttp", "aiohttp_cors", "grpc", "opencensus")):
        return None
    host, port = f"{nodes.network}.1", _free_port()
    options = ("--include-dashboard=true", f"--dashboard-host={host}", f"--dashboard-port={port}")
    return f"http://{host}:{port}", options


def _free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("", 0))
        return int(trial.getsockname()[1])


async def _ours(nodes: RayNodes, jobs: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(lambda: engine_of(nodes, Path(folder)), patience=60.0)
        await lab.start()
        try:
            cluster = cluster_spec()
            held = await lab.add_nodes(2, cluster)
            left = iter(range(jobs))

            async def one_after_another(node: str) -> None:
                # As control does: the next one starts on a node when the end of the one before was told.
                for _ in left:
                    ended = await lab.end_of(await lab.run("true", (node,), cluster))
                    assert ended.exit_code == 0, ended
                    await lab.engine.forget_gang((ended.attempt_id,))

            begin = time.monotonic()
            await asyncio.gather(*map(one_after_another, held))
            return time.monotonic() - begin
        finally:
            await lab.engine.shut_down()
            await lab.engine.close()


#: In a process of its own, as Ray takes the process that it is loaded into.
_BARE = """
import sys, subprocess, time, ray
jobs, with_actors = map(int, sys.argv[2:])
ray.init(address=sys.argv[1], log_to_driver=False, logging_level=40)

@ray.remote(num_cpus=1)
def task():
    return subprocess.run(["true"]).returncode

@ray.remote(num_cpus=1)
class Supervisor:
    def run(self):
        return subprocess.run(["true"]).returncode

def job():
    supervisor = Supervisor.remote()
    return supervisor, supervisor.run.remote()

ray.get([task.remote() for _ in range(2)])
begin = time.monotonic()
assert not any(ray.get([task.remote() for _ in range(jobs)]))
tasks = time.monotonic() - begin

begin, running = time.monotonic(), dict(reversed(job()) for _ in range(2))
for number in range(with_actors):
    (ended,), _ = ray.wait(list(running), num_returns=1)
    ray.kill(running.pop(ended))
    if number < with_actors - 2:
        supervisor, answer = job()
        running[answer] = supervisor
print(tasks, time.monotonic() - begin)
"""


def _bare(nodes: RayNodes, jobs: int, with_actors: int) -> tuple[float, float]:
    done = subprocess.run(
        [sys.executable, "-c", _BARE, nodes.address, str(jobs), str(with_actors)],
        env=nodes.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    tasks, actors = done.stdout.split()[-2:]
    return float(tasks), float(actors)


#: The same two at a time: what ``ray job submit`` and a look at its state until it has ended cost.
_API = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
from ray.job_submission import JobSubmissionClient
address, jobs, server_seconds, job_seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
deadline = time.monotonic() + server_seconds
while True:
    try:
        client = JobSubmissionClient(address)
        client.list_jobs()
        break
    except Exception:
        if time.monotonic() > deadline:
            raise
        time.sleep(0.2)

def job(_):
    job_id, deadline = client.submit_job(entrypoint="true"), time.monotonic() + job_seconds
    while not (status := client.get_job_status(job_id)).is_terminal():
        assert time.monotonic() < deadline, status
        time.sleep(0.01)
    assert status == "SUCCEEDED", client.get_job_info(job_id)

job(0)
begin = time.monotonic()
with ThreadPoolExecutor(2) as both:
    list(both.map(job, range(jobs)))
print(time.monotonic() - begin)
"""


def _job_api(nodes: RayNodes, address: str, jobs: int) -> float:
    done = subprocess.run(
        [sys.executable, "-c", _API, address, str(jobs), str(_SERVER_SECONDS), str(_JOB_SECONDS)],
        env=nodes.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout.split()[-1])


if __name__ == "__main__":
    report()
