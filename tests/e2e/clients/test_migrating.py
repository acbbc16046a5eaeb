"""What docs/migrating.md and the README tell users to run is run: each fenced block with the client that it is for."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.install import CLIENTS, ROOT
from tests.e2e.clients.az_scenario import START
from tests.support.certificates import Authority
from tests.support.live_service import LiveService
from tests.support.machine import needs_namespaces

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


def ran(client: str, command: list[str], service: LiveService, folder: Path, **more: str) -> str:
    """What a command of a client prints; it must end well."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TRAINSHED_", "AZURE_"))}
    environment = {
        **kept,
        "HOME": str(folder),
        "TRAINSHED_HOME": str(service.home),
        "NODE_PATH": str(CLIENTS[client].folder / "node_modules"),
        **more,
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


POINTED = pytest.mark.parametrize(
    ("client", "heading", "language", "option", "workspace"),
    [
        ("sdk-2.0.0", "Python, azure-mgmt-batchai 2.0.0", "python", "-c", "from-2-0-0"),
        ("sdk-7.0.0", "Python, azure-mgmt-batchai 7.0.0", "python", "-c", "from-7-0-0"),
        ("node-2.2.1", "Node.js", "js", "-e", "from-node"),
    ],
)


@pytest.fixture(scope="module")
def protected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LiveService, Path]]:
    """A service that speaks TLS, and the certificate of the authority that vouches for it."""
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority.make(folder)
    certificate, key = authority.issue("server")
    live = LiveService(folder / "home", "--tls-cert", str(certificate), "--tls-key", str(key))
    try:
        yield live.start(), authority.file
    finally:
        live.stop()


@POINTED
def test_a_client_is_pointed_at_the_service(
    shared_service: LiveService, tmp_path: Path, client: str, heading: str, language: str, option: str, workspace: str
) -> None:
    skip_without(client)
    (block,) = blocks(GUIDE, heading, language)
    printed = ran(client, [CLIENTS[client].interpreter, option, block], shared_service, tmp_path)
    assert printed == f"{_ROOT}/{workspace}\n"


@POINTED
def test_a_client_trusts_an_authority_of_the_site(
    protected: tuple[LiveService, Path],
    tmp_path: Path,
    client: str,
    heading: str,
    language: str,
    option: str,
    workspace: str,
) -> None:
    skip_without(client)
    service, authority = protected
    assert service.told()["url"].startswith("https://")
    (block,) = blocks(GUIDE, heading, language)
    variable = "NODE_EXTRA_CA_CERTS" if language == "js" else "REQUESTS_CA_BUNDLE"
    assert f"`{variable}`" in GUIDE.read_text(encoding="utf-8")
    command = [CLIENTS[client].interpreter, option, block]
    assert ran(client, command, service, tmp_path, **{variable: str(authority)}) == f"{_ROOT}/{workspace}\n"


def test_the_azure_command_line_trusts_an_authority_of_the_site(
    protected: tuple[LiveService, Path], tmp_path: Path
) -> None:
    skip_without("az-0.4.10")
    service, authority = protected
    command = [CLIENTS["az-0.4.10"].interpreter, str(START), *["batchai", "workspace", "list", "-g", "absent"]]
    assert ran("az-0.4.10", command, service, tmp_path, REQUESTS_CA_BUNDLE=str(authority)) == "[]\n"


def test_the_readmes_job(shared_service: LiveService, tmp_path: Path) -> None:
    skip_without("sdk-2.0.0")
    (block,) = blocks(ROOT / "README.md", "The official client", "python")
    printed = ran("sdk-2.0.0", [CLIENTS["sdk-2.0.0"].interpreter, "-c", block], shared_service, tmp_path).splitlines()
    assert printed[0] == "succeeded 0"
    assert any(line.startswith("stdout.txt 6 http://127.0.0.1:") for line in printed)


@needs_namespaces
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
