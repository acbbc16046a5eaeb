"""The same job files on this machine, on Slurm and on Ray: same accuracy, same layout of outputs, same variables."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engines.ray import cluster as ray_cluster
from tests.engines.slurm import slurm_site as site
from tests.engines.slurm.laboratory import settings
from tests.support import containers
from tests.support.containers import Registry, Store
from tests.support.live_service import LiveService
from trainshed.cli.main import run

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(400)]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
ACCOUNT = {"adminUserName": "tester", "adminUserPassword": "only-for-tests-1"}
SECONDS = 180.0
OTHERS = ("slurm", "ray")
WHY_NOT = {"slurm": site.why_not, "ray": ray_cluster.why_not}

#: What each rank of a job tells: its variables, by its number.
TELL = """\
import json, os
rank = os.environ.get("RANK") or os.environ.get("OMPI_COMM_WORLD_RANK") or os.environ["PMI_RANK"]
with open(f"{os.environ['AZ_BATCHAI_OUTPUT_ENV']}/{rank}.json", "w") as out:
    json.dump(dict(os.environ), out)
print("final test accuracy 1.0")
"""
TELLING: dict[str, dict[str, Any]] = {
    "pyTorchSettings": {"pythonScriptFilePath": "tell.py", "communicationBackend": "gloo"},
    "customMpiSettings": {"commandLine": "python tell.py", "processCount": 2},
}
#: Variables that are on one engine and not on this machine, and the other way round.
MORE = {
    "slurm": {"TRAINSHED_SLURM_JOB_ID", "TRAINSHED_SLURM_NODELIST"},
    "ray": set[str](),
}
LESS = {
    # Which GPUs a job sees without having asked for any is Slurm's to say; here it sees none.
    "slurm": {"TRAINSHED_NODE_MARK", "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"},
    "ray": set[str](),
}
#: Variables whose values differ from engine to engine.
ADDRESSES = {"AZ_BATCH_HOST_LIST", "HOSTNAME", "MASTER_ADDR", "MASTER_PORT", "PMI_HOSTNAME", "TRAINSHED_AGENT_HOSTS"}
IDS = {"TRAINSHED_AGENT_TOKEN", "TRAINSHED_ATTEMPT_ID", "TRAINSHED_JOB_ID", "TRAINSHED_NODE_MARK"}
PATHS = {
    "AZ_BATCHAI_JOB_MOUNT_ROOT",
    "AZ_BATCHAI_JOB_TEMP",
    "AZ_BATCHAI_JOB_TEMP_DIR",
    "AZ_BATCHAI_MOUNT_ROOT",
    "AZ_BATCHAI_MPI_HOST_FILE",
    "AZ_BATCHAI_OUTPUT_ENV",
    "AZ_BATCHAI_PYTORCH_INIT_METHOD",
    "AZ_BATCHAI_SHARED_JOB_TEMP",
    "AZ_BATCHAI_STDOUTERR_DIR",
    "OLDPWD",
    "PWD",
    "TRAINSHED_CHECKPOINT_DIR",
    "TRAINSHED_PREEMPTION_NOTICE",
    "TRAINSHED_RANKS",
    "TRAINSHED_RANK_DIRECTORY",
    "TRAINSHED_RANK_LOGS",
}
#: slurmd sets it for all jobs of a site.
OF_THE_SITE = {"slurm": {"TMPDIR"}, "ray": set[str]()}
#: Of the session, the launcher and the job that the service is started in here, and Ray's nodes are not.
OF_THE_STARTER = {
    "OMPI_COMM_WORLD_RANK": "7",
    "PMIX_RANK": "7",
    "LOCAL_RANK": "7",
    "PYENV_VERSION": "3.11.7",
    "_PYENV_INSTALL_PREFIX": "/opt/pyenv",
    "INVOCATION_ID": "0123456789abcdef",
    "SSH_TTY": "/dev/pts/7",
    "AZ_BATCHAI_INPUT_OTHER": "/elsewhere",
}


#: Directories of jobs that have succeeded, by cluster and name: each runs once on each engine; none if it fails.
Ran = dict[tuple[str, str], list[Path]]


@pytest.fixture(scope="module")
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    """A service with a cluster of two nodes on each engine that can be had, named after the engine."""
    place = tmp_path_factory.mktemp("alike")
    home = place / "home"
    home.mkdir(mode=0o700)
    more: dict[str, str] = {}
    if not WHY_NOT["slurm"]():
        slurm = request.getfixturevalue("slurm_site")
        given = settings(place / "slurm")
        more["SLURM_CONF"] = str(slurm.conf)
        _add(home, "slurm", directory=given.directory, node_directory=given.node_directory, python=given.python)
    if not WHY_NOT["ray"]():
        nodes = request.getfixturevalue("ray_nodes")
        nodes.wait_for(len(nodes.nodes))
        _add(home, "ray", address=nodes.address, directory=str(place / "ray"), token_file=str(nodes.token_file))
    live = LiveService(home, more={**OF_THE_STARTER, **more}, warm=True)
    try:
        with pytest.MonkeyPatch.context() as patch:
            # As systemd starts it, and as the nodes of the others are started.
            for name in set(os.environ) - {"PATH", "HOME"}:
                patch.delenv(name)
            patch.setenv("USER", "root")
            patch.setenv("LANG", "C.UTF-8")
            live.start()
        client = live.client
        client.workspaces.create("default", location="local")
        client.experiments.create("default")
        for name in ("local", *OTHERS):
            if name == "local" or not WHY_NOT[name]():
                client.clusters.create(
                    name,
                    {
                        "vmSize": "STANDARD_D1",
                        "scaleSettings": {"manual": {"targetNodeCount": 2}},
                        "userAccountSettings": ACCOUNT,
                        **({"engine": {"name": name}} if name != "local" else {}),
                    },
                )
        yield live
        for name in ("ray",):
            if not WHY_NOT[name]():
                # Its nodes are the session's, for other tests.
                client.clusters.delete(name)
    finally:
        live.stop()


def _add(home: Path, kind: str, **options: str) -> None:
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    assert run(["engine", "add", "--home", str(home), kind, kind, *words]) == 0


@pytest.fixture(scope="module")
def ran(service: LiveService) -> Ran:
    """What has run on the service."""
    return {}


@pytest.mark.parametrize("engine", OTHERS)
@pytest.mark.parametrize(("example", "needs"), [("digits-mpi", "mpi4py"), ("digits-pytorch", "torch")])
def test_an_example_trains_alike(service: LiveService, ran: Ran, engine: str, example: str, needs: str) -> None:
    _skip_without(engine, needs, example)
    here, there = (_run(service, ran, cluster, example, EXAMPLES / example) for cluster in ("local", engine))
    assert _accuracy(here) == _accuracy(there) > 0.9
    assert _layout(here) == _layout(there)
    assert any(path.startswith("outputs/") for path in _layout(here))


@pytest.mark.parametrize("engine", OTHERS)
@pytest.mark.parametrize("toolkit", sorted(TELLING))
def test_variables_are_the_same(service: LiveService, ran: Ran, engine: str, toolkit: str, tmp_path: Path) -> None:
    _skip_without(engine, "mpi4py" if "Mpi" in toolkit else "json", toolkit)
    (tmp_path / "tell.py").write_text(TELL)
    properties = {
        "nodeCount": 2,
        toolkit: TELLING[toolkit],
        "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/logs",
        "outputDirectories": [{"id": "ENV", "pathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/env"}],
        "environmentVariables": [{"name": "OF_THE_JOB", "value": "its own"}],
    }
    (tmp_path / "job.json").write_text(json.dumps({"properties": properties}))
    here, there = (_told(_run(service, ran, cluster, toolkit, tmp_path)) for cluster in ("local", engine))
    assert list(here) == list(there) == ["0", "1"]
    for rank in here:
        one, other = here[rank], there[rank]
        assert set(other) - set(one) - OF_THE_SITE[engine] == MORE[engine]
        assert set(one) - set(other) - OF_THE_SITE[engine] == LESS[engine]
        differing = {name for name in set(one) & set(other) if one[name] != other[name]}
        assert not differing - ADDRESSES - IDS - PATHS - OF_THE_SITE[engine], differing
        assert not set(one.items()) & set(OF_THE_STARTER.items())
        assert other["OF_THE_JOB"] == "its own"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Has ``team/plain:1``, a root file system with a shell."""
    if why := containers.hindrance() or Registry.hindrance():
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("images")
    store = Store(folder / "store")
    store.add("localhost/plain", containers.root_file_system(more={"from": "the image\n"}))
    with Registry(folder / "registry") as running:
        place = f"docker://{running.address}/team/plain:1"
        credentials = f"--creds={running.USER}:{running.PASSWORD}"
        store.podman("push", "--quiet", "--tls-verify=false", credentials, "localhost/plain", place)
        yield running


@pytest.mark.parametrize("engine", OTHERS)
def test_a_container_runs_alike(
    service: LiveService, ran: Ran, engine: str, registry: Registry, tmp_path: Path
) -> None:
    """From a private registry, on two nodes, with the job's directories in it."""
    _skip_without(engine, "json", "it")
    properties = {
        "nodeCount": 2,
        "customToolkitSettings": {
            "commandLine": "cat /from > $AZ_BATCHAI_OUTPUT_ENV/$(cat /from | tr ' ' -); cat /from"
        },
        "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/logs",
        "outputDirectories": [{"id": "ENV", "pathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/env"}],
        "jobPreparation": {"commandLine": "test -e /from"},
        "containerSettings": {
            "imageSourceRegistry": {
                "serverUrl": registry.address,
                "image": "team/plain:1",
                "credentials": {"username": registry.USER, "password": registry.PASSWORD},
            }
        },
    }
    (tmp_path / "job.json").write_text(json.dumps({"properties": properties}))
    here, there = (_run(service, ran, cluster, "container", tmp_path) for cluster in ("local", engine))
    assert _layout(here) == _layout(there)
    for folders in (here, there):
        (written,) = (path for name, path in _files(folders).items() if name.startswith("outputs/"))
        (said,) = (path for name, path in _files(folders).items() if name.endswith("stdout.txt"))
        assert (written.name, written.read_text(), said.read_text()) == ("the-image", "the image\n", "the image\n")


def _skip_without(engine: str, package: str, what: str) -> None:
    if why := WHY_NOT[engine]():
        pytest.skip(why)
    pytest.importorskip(package, reason=f"{what} runs with {package}")


def _run(service: LiveService, ran: Ran, cluster: str, job: str, folder: Path) -> list[Path]:
    """The directories of a job that has succeeded there: the folder's ``job.json``, with the folder's files."""
    assert ran.get((cluster, job)) != [], f"{job} on {cluster} did not come to a good end before"
    if (cluster, job) not in ran:
        ran[cluster, job] = []
        name = f"{job}-{cluster}".lower()
        done = subprocess.run(
            [
                *(sys.executable, "-m", "trainshed", "job", "create", "-n", name, "-c", cluster),
                *("-f", "job.json", "--code", "."),
            ],
            cwd=folder,
            env={**os.environ, "TRAINSHED_HOME": str(service.home)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        client = service.client
        service.wait_for(lambda: client.jobs.get(name).final, f"the end of {name}", SECONDS)
        ended = client.jobs.get(name)
        assert ended.execution_state.value == "succeeded", ended.errors
        ran[cluster, job] = _directories(service.home.parent, name)
    return ran[cluster, job]


def _directories(place: Path, job: str) -> list[Path]:
    """Those of the job's runs on volumes. Other directories go while this looks, which ``os.walk`` does not mind."""
    found = (Path(folder) / name for folder, names, _ in os.walk(place) for name in names)
    return sorted(path for path in found if path.parts[-3:-1] == ("jobs", job) and "mounts" in path.parts)


def _files(folders: list[Path]) -> dict[str, Path]:
    """By their names below the job's directories."""
    return {str(path.relative_to(one)): path for one in folders for path in one.rglob("*") if path.is_file()}


def _accuracy(folders: list[Path]) -> float:
    """As the job told it last."""
    text = "".join(path.read_text() for path in _files(folders).values() if path.name.startswith("stdout"))
    (accuracy,) = set(re.findall(r"final test accuracy ([0-9.]+)", text))
    return float(accuracy)


def _layout(folders: list[Path]) -> set[str]:
    """The files that it wrote, without what names nodes."""
    return {re.sub(r"(execution|job_prep)-.*(\.\w+)$", r"\1-NODE\2", name) for name in _files(folders)}


def _told(folders: list[Path]) -> dict[str, dict[str, str]]:
    """Variables of each rank."""
    files = sorted(_files(folders).items())
    return {path.stem: json.loads(path.read_text()) for name, path in files if name.startswith("outputs/")}
