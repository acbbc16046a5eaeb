"""What a job costs on Ray: 200 that do nothing through the engine, beside Ray's tasks and what Ray's job API does.

The cluster is a real one on this machine, a head and two nodes of one CPU. Ray's job API starts a supervisor, an actor,
for every job and the command below that; as it needs a package that the engine does not (``ray[default]``), the same is
done here by hand: an actor for each job, which runs the command as a process and ends.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.engines.lab import Lab, cluster_spec
from tests.engines.ray.cluster import RayNodes, why_not
from tests.engines.ray.fixtures import engine_of

#: Jobs through the engine and as tasks; and jobs with an actor each, which are slow.
JOBS, JOBS_WITH_ACTORS = 200, 20
QUICK_JOBS, QUICK_WITH_ACTORS = 40, 4


def report(quick: bool = False) -> None:
    """Print the figures, or why there are none; with ``quick`` of fewer jobs."""
    jobs, with_actors = (QUICK_JOBS, QUICK_WITH_ACTORS) if quick else (JOBS, JOBS_WITH_ACTORS)
    if why := why_not():
        print(f"Ray: {why}")
        return
    nodes = RayNodes()
    try:
        nodes.start_head()
        for _ in range(2):
            nodes.add_node()
        nodes.wait_for(2)
        ours = asyncio.run(_ours(nodes, jobs))
        tasks, actors = _bare(nodes, jobs, with_actors)
    finally:
        nodes.close()
    print(
        f"Ray: jobs of `true`, two nodes of one CPU: through Trainshed {1000 * ours / jobs:.0f} ms a job; "
        f"Ray's tasks {1000 * tasks / jobs:.1f} ms; an actor a job, as Ray's job API does, "
        f"{1000 * actors / with_actors:.0f} ms ({actors / with_actors / (ours / jobs):.1f} x ours)"
    )


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


if __name__ == "__main__":
    report()
