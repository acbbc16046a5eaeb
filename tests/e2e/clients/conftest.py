"""Each scenario runs once, whichever workers its tests are on."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.clients.install import CLIENTS
from tests.e2e.clients import runs
from tests.support.machine import why_no_namespaces

Scenario = Callable[[Path], dict[str, Any]]


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Scenario], dict[str, Any]]:
    """What a client's scenario tells: run by the worker that asks first; the others wait and read.

    The scenario gets the path of a home that does not exist yet. Skips with the reason where the client cannot be had,
    or namespaces: each scenario has file servers, and jobs that tell their node's name.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent

    def get(client: str, scenario: Scenario) -> dict[str, Any]:
        why = CLIENTS[client].why_not() or why_no_namespaces()
        if why:
            pytest.skip(why)
        told = folder / f"{client}.json"
        with (folder / f"{client}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not told.exists():
                told.write_text(json.dumps(scenario(tmp_path_factory.mktemp(client) / "home")))
        return dict(json.loads(told.read_text()))

    return get


@pytest.fixture(scope="class")
def run(request: pytest.FixtureRequest, once: Callable[[str, Scenario], dict[str, Any]]) -> runs.Run:
    """The run of the class's client."""
    client, script = request.cls.client, request.cls.script
    return runs.Run(**once(client, lambda home: runs.run(client, script, home)))
