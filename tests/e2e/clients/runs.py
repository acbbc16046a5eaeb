"""Runs of the foreign clients' scenarios on a service of their own, with answers that are lost on the way."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


def run(client: str, script: str, home: Path) -> dict[str, Any]:
    """Run a client's script on a fresh service in ``home``: the members of a Run."""
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
    return {**json.loads(done.stdout), "repeated": repeated}
