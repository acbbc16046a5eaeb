"""What docs/migrating.md and the README tell users to run is run: each fenced block with the client that it is for."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.clients.install import CLIENTS, ROOT
from tests.e2e.clients.az_scenario import START
from tests.support.live_service import LiveService

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]

GUIDE = ROOT / "docs" / "migrating.md"
_ROOT = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/team/providers/Microsoft.BatchAI/workspaces"
#: Seconds for one block, and for one command.
PATIENCE = 90.0


def blocks(page: Path, heading: str, language: str = "") -> list[str]:
    """The fenced blocks of a language below a heading."""
    text = page.read_text(encoding="utf-8")
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"{page} has no heading {heading!r}"
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", found[1], re.MULTILINE | re.DOTALL)
    return [block for given, block in fences if given == language]


def ran(client: str, command: list[str], service: LiveService, folder: Path) -> str:
    """What a command of a client prints; it must end well."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TRAINSHED_", "AZURE_"))}
    environment = {
        **kept,
        "HOME": str(folder),
        "TRAINSHED_HOME": str(service.home),
        "NODE_PATH": str(CLIENTS[client].folder / "node_modules"),
    }
    done = subprocess.run(
        command, cwd=folder, env=environment, text=True, capture_output=True, timeout=PATIENCE, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, f"{command} exited {done.returncode}\n{done.stdout}\n{done.stderr[-2000:]}"
    return done.stdout


def skip_without(client: str) -> None:
    why = CLIENTS[client].why_not()
    if why:
        pytest.skip(why)


@pytest.mark.parametrize(
    ("client", "heading", "language", "option", "workspace"),
    [
        ("sdk-2.0.0", "Python, azure-mgmt-batchai 2.0.0", "python", "-c", "from-2-0-0"),
        ("sdk-7.0.0", "Python, azure-mgmt-batchai 7.0.0", "python", "-c", "from-7-0-0"),
        ("node-2.2.1", "Node.js", "js", "-e", "from-node"),
    ],
)
def test_a_client_is_pointed_at_the_service(
    shared_service: LiveService, tmp_path: Path, client: str, heading: str, language: str, option: str, workspace: str
) -> None:
    skip_without(client)
    (block,) = blocks(GUIDE, heading, language)
    printed = ran(client, [CLIENTS[client].interpreter, option, block], shared_service, tmp_path)
    assert printed == f"{_ROOT}/{workspace}\n"


def test_the_readmes_job(shared_service: LiveService, tmp_path: Path) -> None:
    skip_without("sdk-2.0.0")
    (block,) = blocks(ROOT / "README.md", "The official client", "python")
    printed = ran("sdk-2.0.0", [CLIENTS["sdk-2.0.0"].interpreter, "-c", block], shared_service, tmp_path).splitlines()
    assert printed[0] == "succeeded 0"
    assert any(line.startswith("stdout.txt 6 http://127.0.0.1:") for line in printed)


def test_the_azure_command_line(shared_service: LiveService, tmp_path: Path) -> None:
    skip_without("az-0.4.10")
    heading = "The Azure command line"
    (job,) = blocks(GUIDE, heading, "json")
    (tmp_path / "job.json").write_text(job)
    _, commands = blocks(GUIDE, heading)
    start = [CLIENTS["az-0.4.10"].interpreter, str(START)]
    printed = {
        line: ran("az-0.4.10", [*start, *line.split()[1:]], shared_service, tmp_path) for line in commands.splitlines()
    }
    assert len(printed) == 9
    streamed = next(text for line, text in printed.items() if "file stream" in line)
    assert streamed.startswith("hello from pair-")
    listed = next(text for line, text in printed.items() if "job list" in line)
    assert "hello" in listed and "succeeded" in listed
    # Its settings are its own.
    assert not (tmp_path / ".azure").exists()
    assert (tmp_path / ".azure-trainshed" / "accessTokens.json").stat().st_mode & 0o777 == 0o600


def test_every_version_is_the_one_that_is_tested() -> None:
    guide = GUIDE.read_text(encoding="utf-8")
    for name in ("azure-mgmt-batchai==2.0.0", "azure-mgmt-batchai==7.0.0", "@azure/arm-batchai@2.2.1"):
        assert name in guide
    assert "azure-mgmt-batchai==2.0.0\n" in CLIENTS["sdk-2.0.0"].versions[0].read_text()
    assert "azure-mgmt-batchai==7.0.0\n" in CLIENTS["sdk-7.0.0"].versions[0].read_text()
    assert '"@azure/arm-batchai": "2.2.1"' in CLIENTS["node-2.2.1"].versions[0].read_text()
    assert "azure-cli-batchai==0.4.10\n" in CLIENTS["az-0.4.10"].versions[0].read_text()
    assert "azure-cli-core==2.0.68\n" in CLIENTS["az-0.4.10"].versions[0].read_text()
