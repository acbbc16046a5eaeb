"""A real slurmctld takes the example configurations, and calls the example scripts for cloud nodes."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.slurm.slurm_site import PATIENCE, Site, why_not

pytestmark = [pytest.mark.slow]

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "slurm"
#: A stand-in for Azure's command line: writes down what it was called with.
AZ_DOUBLE = '#!/bin/sh\necho "$@" >>"$AZ_CALLS"\n'


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """A site of one node whose slurm.conf includes all examples, with nodes that nobody starts."""
    if why := why_not():
        pytest.skip(why)
    made = Site(nodes=1)
    try:
        _include(made)
        made.start()
        yield made
    finally:
        made.close()


def _include(site: Site) -> None:
    root = site.root
    for name in ("resume", "suspend"):
        shutil.copy(EXAMPLES / name, root / name)
    (root / "az").write_text(AZ_DOUBLE)
    (root / "az").chmod(0o755)
    settings = root / "settings"
    settings.write_text(
        f"export SLURM_CONF={site.conf} AZ_CALLS={root}/calls AZURE_RESOURCE_GROUP=team PATH={root}:$PATH\n"
    )
    # The munge socket of this site, beside what the example says.
    changes = {
        r"AuthInfo=": f"AuthInfo=socket={root}/munge/socket,",
        r"(NodeName=gpu\[1-2\])": r"\1 NodeAddr=127.77.0.[1-2]",
        r"(NodeName=gpu3)": r"\1 NodeAddr=127.77.0.3",
        r"/etc/slurm/cloud/": f"{root}/",
    }
    # The site's own node has no GPU here: gres.conf is the example's.
    lines = site.conf.read_text().replace(" Gres=gpu:2", "").splitlines()
    own = [line for line in lines if not line.startswith(("SelectType", "AuthInfo"))]
    for name in ("quick.conf", "preemption.conf", "gpu.conf", "cloud.conf"):
        text = (EXAMPLES / name).read_text()
        for old, new in changes.items():
            text = re.sub(old, new, text)
        (root / name).write_text(text)
        own.append(f"Include {root}/{name}")
    shutil.copy(EXAMPLES / "gres.conf", root / "gres.conf")
    site.conf.write_text("\n".join(own) + "\n")
    for name in ("resume", "suspend"):
        script = (root / name).read_text().replace("/etc/slurm/cloud/settings", str(settings))
        (root / name).write_text(script)


def test_a_controller_knows_what_the_examples_say(site: Site) -> None:
    config = dict(re.findall(r"^(\w+) *= (.*)$", site.run("scontrol", "show", "config"), re.MULTILINE))
    assert config["PreemptType"] == "preempt/partition_prio" and config["PreemptMode"] == "REQUEUE"
    assert config["SchedulerParameters"] == "batch_sched_delay=0,sched_min_interval=0,bf_interval=2"
    assert "cred_expire=30" in config["AuthInfo"] and "preempt_send_user_signal" in config["SlurmctldParameters"]
    partitions = site.run("sinfo", "-h", "-o", "%R %p %D %l").splitlines()
    named = {line.split()[0] for line in partitions}
    assert {"spare", "usual", "urgent", "gpu", "cloud"} <= named
    assert "gpu:a100:4" in site.run("sinfo", "-h", "-p", "gpu", "-n", "gpu1", "-o", "%G")
    assert "PriorityTier=100" in site.run("scontrol", "-o", "show", "partition", "urgent")
    assert "TotalNodes=8" in site.run("scontrol", "-o", "show", "partition", "cloud")
    log = "\n".join(path.read_text() for path in (site.root / "log").glob("slurmctld*"))
    assert not re.search(r"unrecognized key|Invalid|fatal", log), log


def test_a_job_wakes_cloud_nodes_through_the_script(site: Site) -> None:
    site.run("sbatch", "-p", "cloud", "-N2", "-o/dev/null", "--wrap=true")
    calls = site.root / "calls"
    until = time.monotonic() + PATIENCE
    while not calls.exists() or len(calls.read_text().splitlines()) < 2:
        assert time.monotonic() < until, (site.root / "log" / "slurmctld.log").read_text()[-3000:]
        time.sleep(0.1)
    said = sorted(calls.read_text().splitlines())
    assert said == [f"vm start --no-wait --resource-group team --name cloud{number}" for number in (1, 2)]


def test_suspend_gives_machines_back(site: Site) -> None:
    before = (site.root / "calls").read_text() if (site.root / "calls").exists() else ""
    site.run(str(site.root / "suspend"), "cloud[3-4]")
    said = (site.root / "calls").read_text().removeprefix(before).splitlines()
    assert said == [f"vm deallocate --no-wait --resource-group team --name cloud{number}" for number in (3, 4)]
