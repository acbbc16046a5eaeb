"""Many jobs through the service while Slurm's own users submit too; and how often Slurm is asked about them.

In the suite they are few. ``TRAINSHED_MANY_JOBS=500`` before pytest makes them many.
"""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.slurm.laboratory import settings
from tests.engines.slurm.slurm_site import Site
from tests.support.live_service import LiveService, custom
from trainshed.cli.main import run

JOBS = int(os.environ.get("TRAINSHED_MANY_JOBS") or 32)
#: Seconds for all of them: at most so many a job on a machine that others use as well.
SECONDS = 60.0 + 1.5 * JOBS
#: Slurm's other users submit one after so many of ours.
EVERY = 4
NOBODY = 65534
TOOLS = ("sbatch", "squeue", "scancel", "sacct", "sinfo", "scontrol")
#: Writes down how a tool was called, and calls it.
COUNTING = '#!/bin/bash\necho "{name} $*" >> {log}\nexec {program} "$@"\n'
#: Looks at Slurm a second, at most: the engine's shortest pause, with a second one for what has ended.
LOOKS = 2 / 0.2

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(SECONDS + 120)]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Every call of a tool of Slurm's by the service, a line each."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in TOOLS:
        program = shutil.which(name)
        (tools / name).write_text(COUNTING.format(name=name, program=program, log=tmp_path / "calls"))
        (tools / name).chmod(0o755)
    return tmp_path / "calls"


@pytest.fixture
def service(slurm_site: Site, tmp_path: Path, log: Path) -> Iterator[LiveService]:
    """A service with a cluster ``c`` on Slurm."""
    home, site = tmp_path / "home", settings(tmp_path / "site")
    home.mkdir(mode=0o700)
    options = ("--directory", site.directory, "--node_directory", site.node_directory, "--python", site.python)
    assert run(["engine", "add", "--home", str(home), "slurm", "hpc", *options]) == 0
    path = f"{log.parent / 'tools'}:{os.environ['PATH']}"
    live = LiveService(home, more={"SLURM_CONF": str(slurm_site.conf), "PATH": path}, warm=True)
    try:
        yield live.start()
    finally:
        live.stop()
        slurm_site.clear()


def test_many_jobs_beside_those_of_others(service: LiveService, slurm_site: Site, log: Path, tmp_path: Path) -> None:
    cluster = service.make_cluster(4, 60.0, engine={"name": "hpc", "options": {"partition": "batch"}})
    client, others = service.client, []
    begin = time.monotonic()
    for number in range(JOBS):
        command = f"echo {number} >> $AZ_BATCHAI_MOUNT_ROOT/ran"
        client.jobs.create(f"job-{number}", custom(command, cluster), wait=False)
        if number % EVERY == 0:
            own = ("sbatch", "--parsable", f"--uid={NOBODY}", f"--gid={NOBODY}", "-p", "batch", "-n1", "-o/dev/null")
            others.append(slurm_site.run(*own, "--wrap=/bin/true"))
    submitted = time.monotonic() - begin
    service.wait_for(lambda: all(job.final for job in client.jobs.list()), f"the end of {JOBS} jobs", SECONDS)
    took = time.monotonic() - begin
    assert Counter(job.execution_state.value for job in client.jobs.list()) == {"succeeded": JOBS}
    (ran,) = (tmp_path / "site").rglob("mounts/ran")
    assert sorted(map(int, ran.read_text().split())) == list(range(JOBS)), "each once"
    service.wait_for(lambda: not slurm_site.states(), "an empty queue", SECONDS)

    calls = [line.split() for line in log.read_text().splitlines()]
    count = Counter(call[0] for call in calls)
    print(
        f"{JOBS} jobs, {len(others)} of others: submitted in {submitted:.1f} s, over after {took:.1f} s; {dict(count)}"
    )
    assert count["sbatch"] <= JOBS, "one for each, or for several that are alike"
    # Of elements that have nothing to do any more, together.
    assert count["scancel"] <= 2 + count["squeue"]
    assert count["squeue"] <= 10 + LOOKS * took
    asked = [call for call in calls if call[0] in ("squeue", "scontrol")]
    assert not [call for call in asked if any(word.startswith(("-j", "--job")) or word == "job" for word in call)]
