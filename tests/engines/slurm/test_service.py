"""The service with a Slurm site beside its own nodes, as users and administrators meet it."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engines.slurm.laboratory import settings
from tests.engines.slurm.slurm_site import Site
from tests.support.live_service import LiveService, custom
from trainshed.client import Client

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ACCOUNT = {"adminUserName": "tester", "adminUserPassword": "only-for-tests-1"}
SECONDS = 75.0


@pytest.fixture(scope="module")
def service(slurm_site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    """A service with clusters ``here`` and, on Slurm, ``there``; and ``far``, whose nodes share no file system."""
    folder = tmp_path_factory.mktemp("both")
    home, site = folder / "home", settings(folder / "site")
    add = (sys.executable, "-m", "trainshed", "engine", "add", "--home", str(home), "slurm")
    on_nodes = ("--node_directory", site.node_directory, "--python", site.python)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        reached = f"127.0.0.1:{probe.getsockname()[1]}"
    for more in (("hpc", "--directory", site.directory), ("afar", "--report_to", reached)):
        subprocess.run([*add, *more, *on_nodes], check=True, capture_output=True)
    live = LiveService(home, more={"SLURM_CONF": str(slurm_site.conf)}, warm=True)
    try:
        live.start()
        client = live.client
        client.workspaces.create("default", location="local")
        client.experiments.create("default")
        client.clusters.create("here", _cluster(2))
        client.clusters.create("there", {**_cluster(4), "engine": {"name": "hpc", "options": {"partition": "low"}}})
        client.clusters.create("far", {**_cluster(4), "engine": {"name": "afar", "options": {}}})
        yield live
    finally:
        live.stop()
        slurm_site.clear()


def _cluster(nodes: int) -> dict[str, Any]:
    return {
        "vmSize": "STANDARD_D1",
        "scaleSettings": {"manual": {"targetNodeCount": nodes}},
        "userAccountSettings": ACCOUNT,
    }


def _finished(client: Client, name: str) -> bool:
    return client.jobs.get(name).final


PRINT = "env | cut -d= -f1 | grep -E '^(AZ_|TRAINSHED_)' | sort > $AZ_BATCHAI_MOUNT_ROOT/env; exit 0"


def test_one_job_file_on_both_and_what_slurm_does_is_explained(service: LiveService, slurm_site: Site) -> None:
    client = service.client
    ids = {name: str(client.clusters.get(name).id) for name in ("here", "there")}
    service.wait_for(lambda: client.clusters.get("there").node_count == 4, "Slurm's nodes", SECONDS)
    for name, cluster in ids.items():
        client.jobs.create(f"env-{name}", custom(PRINT, cluster, nodes=2))
    for name in ids:
        service.wait_for(lambda name=name: _finished(client, f"env-{name}"), "its end", SECONDS)
        assert client.jobs.get(f"env-{name}").execution_state.value == "succeeded"
    files = {
        name: [path.read_text().split() for path in (service.home.parent).rglob("mounts/env") if where in str(path)]
        for name, where in (("here", "/home/clusters/"), ("there", "/site/shared/"))
    }
    (here,), (there,) = files["here"], files["there"]
    assert set(there) - set(here) == {"TRAINSHED_SLURM_JOB_ID", "TRAINSHED_SLURM_NODELIST"}
    assert set(here) - set(there) == {"TRAINSHED_NODE_MARK"}

    # Pre-empted by one of Slurm's own users, explained in Slurm's words, and run once more.
    first = "[ $TRAINSHED_ATTEMPT = 2 ] || sleep 1000"
    client.jobs.create("low", custom(first, ids["there"]))
    service.wait_for(lambda: client.jobs.get("low").execution_state.value == "running", "its start", SECONDS)
    slurm_site.run("sbatch", "-p", "high", "-N4", "--exclusive", "-o/dev/null", "--wrap=sleep 3")
    service.wait_for(lambda: client.jobs.get("low").execution_state.value == "queued", "its pre-emption", SECONDS)
    service.kill()
    service.start()
    client = service.client
    service.wait_for(lambda: _finished(client, "low"), "its second end", SECONDS)
    assert client.jobs.get("low").execution_state.value == "succeeded"

    # One that waits says why in Slurm's words, and is terminated while it waits.
    blocking = slurm_site.run(
        "sbatch", "--parsable", "-p", "high", "-N4", "--exclusive", "-o/dev/null", "--wrap=sleep 99"
    )
    service.wait_for(lambda: slurm_site.states().get(blocking) == "RUNNING", "what takes all nodes", SECONDS)
    client.jobs.create("waiting", custom("true", ids["there"]))
    service.wait_for(lambda: "slurm" in _why(client, "waiting").lower(), "Slurm's reason", SECONDS)
    assert "Slurm's job" in str(client.jobs.explain("waiting"))
    client.jobs.terminate("waiting", wait=False)
    service.wait_for(lambda: _finished(client, "waiting"), "its end", SECONDS)
    assert [error.code for error in client.jobs.get("waiting").errors] == ["JobTerminated"]
    service.wait_for(lambda: set(slurm_site.states()) == {blocking}, "a queue without it", SECONDS)
    slurm_site.clear()


def _why(client: Client, name: str) -> str:
    why = client.jobs.get(name).why_waiting
    return why.message if why else ""


def test_scancel_shows_as_terminated(service: LiveService, slurm_site: Site) -> None:
    client = service.client
    slurm_site.clear()
    client.jobs.create("long", custom("sleep 1000", str(client.clusters.get("there").id)))
    service.wait_for(lambda: client.jobs.get("long").execution_state.value == "running", "its start", SECONDS)
    slurm_site.run("scancel", *slurm_site.states())
    service.wait_for(lambda: _finished(client, "long"), "its end", SECONDS)
    job = client.jobs.get("long")
    assert job.execution_state.value == "failed"
    assert [error.code for error in job.errors] == ["JobTerminated"] and "scancel" in job.errors[0].message


def test_logs_and_outputs_of_nodes_that_share_nothing_are_listed_followed_and_downloaded(
    service: LiveService, slurm_site: Site, tmp_path: Path
) -> None:
    client = service.client
    slurm_site.clear()
    outputs = [{"id": "MODEL", "pathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/out"}]
    go_on = tmp_path / "go"
    command = f"echo one; until [ -e {go_on} ]; do sleep 0.05; done; echo two; echo kept > $AZ_BATCHAI_OUTPUT_MODEL/m"
    client.jobs.create("far", custom(command, str(client.clusters.get("far").id), outputDirectories=outputs))
    assert next(iter(client.jobs.stream_log("far"))) == b"one\n"
    # The service is killed, and the job ends while there is none.
    service.kill()
    go_on.touch()
    service.start()
    client = service.client
    assert b"".join(client.jobs.stream_log("far")) == b"one\ntwo\n"
    service.wait_for(lambda: _finished(client, "far"), "its end", SECONDS)
    assert client.jobs.get("far").execution_state.value == "succeeded"
    assert {"stdout.txt", "stderr.txt", "execution.log"} <= {file.name for file in client.jobs.output_files("far")}
    list(client.files.download("far", "MODEL", tmp_path / "model"))
    assert (tmp_path / "model/m").read_text() == "kept\n"
