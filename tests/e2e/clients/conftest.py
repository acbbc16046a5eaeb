"""Runs of the foreign clients' scenarios: each once for all tests of it, on a service of its own."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.clients.install import CLIENTS
from tests.support.faulty_proxy import Fault, faulty_proxy
from tests.support.services import running

SCRIPTS = Path(__file__).resolve().parents[2] / "clients" / "scripts"
SUBSCRIPTION = "11111111-2222-3333-4444-555555555555"
#: Seconds for a whole scenario. It takes about twenty; the machine may be busy.
PATIENCE = 200.0
#: Small enough to be reached.
QUOTAS = {"*": {"Clusters": 4, "Standard NC Family Cluster Dedicated vCPUs": 12}}

_RETRIED = "/workspaces/retried"
#: Answers that the proxy loses, by the step that they belong to.
FAULTS = {
    "retried workspace": Fault("PUT", f"{_RETRIED}$"),
    "retried read": Fault("GET", f"{_RETRIED}$", status=500, passed=False),
    "retried experiment": Fault("PUT", f"{_RETRIED}/experiments/e$"),
    "retried cluster": Fault("PUT", f"{_RETRIED}/clusters/c$"),
    "retried scaling": Fault("PATCH", f"{_RETRIED}/clusters/c$"),
    "retried file server": Fault("PUT", f"{_RETRIED}/fileServers/f$"),
    "retried job": Fault("PUT", f"{_RETRIED}/experiments/e/jobs/once$"),
    "retried termination": Fault("POST", f"{_RETRIED}/experiments/e/jobs/endless/terminate$"),
    "retried deletion of the job": Fault("DELETE", f"{_RETRIED}/experiments/e/jobs/once$"),
    "retried deletion of the cluster": Fault("DELETE", f"{_RETRIED}/clusters/c$"),
    "retried deletion of the workspace": Fault("DELETE", f"{_RETRIED}$"),
}


@dataclass
class Run:
    """What a scenario told."""

    operations: list[str]
    called: list[str]
    steps: dict[str, Any]
    #: By step: what the service said to each of the requests (None when it did not get it), and what the client heard.
    repeated: dict[str, list[tuple[int | None, int]]]

    def step(self, name: str) -> Any:
        """The result of a step that must have gone well."""
        result = self.steps[name]
        assert not (isinstance(result, dict) and ("error" in result or "raised" in result)), f"{name}: {result}"
        return result

    def error(self, name: str) -> dict[str, Any]:
        """The error of a step that the service must have refused."""
        result = self.steps[name]
        assert isinstance(result, dict) and "error" in result, f"{name} was not refused: {result}"
        return dict(result["error"])


@pytest.fixture(scope="session")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Run]:
    """Runs a client's script once for all workers; the others wait for it and read what it told."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent

    def get(client: str, script: str) -> Run:
        told = folder / f"{client}.json"
        with (folder / f"{client}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not told.exists():
                told.write_text(json.dumps(asdict(_run(client, script, tmp_path_factory.mktemp(client) / "home"))))
        return Run(**json.loads(told.read_text()))

    return get


@pytest.fixture(scope="class")
def run(request: pytest.FixtureRequest, scenario: Callable[[str, str], Run]) -> Run:
    """The run of the class's client; skips with the reason where that client cannot be had."""
    why = CLIENTS[request.cls.client].why_not()
    if why:
        pytest.skip(why)
    return scenario(request.cls.client, request.cls.script)


def _run(client: str, script: str, home: Path) -> Run:
    found = CLIENTS[client]
    home.mkdir(mode=0o700)
    (home / "quotas.json").write_text(json.dumps(QUOTAS))
    faults = {name: Fault(fault.method, fault.path, fault.status, fault.passed) for name, fault in FAULTS.items()}
    with running(home) as service:
        told = service.told()
        with faulty_proxy(told["url"], list(faults.values())) as proxy:
            done = subprocess.run(
                [found.interpreter, str(SCRIPTS / script)],
                env={
                    **os.environ,
                    "SERVICE_URL": told["url"],
                    "SERVICE_TOKEN": told["token"],
                    "FAULTY_URL": proxy.url,
                    "SUBSCRIPTION": SUBSCRIPTION,
                    "NODE_PATH": str(found.folder / "node_modules"),
                },
                text=True,
                capture_output=True,
                timeout=PATIENCE,
            )
            assert done.returncode == 0, f"{script} exited {done.returncode}\n{done.stderr[-3000:]}"
            repeated = {name: [(one.said, one.heard) for one in proxy.of(fault)] for name, fault in faults.items()}
    return Run(**json.loads(done.stdout), repeated=repeated)
