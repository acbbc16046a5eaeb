"""The real ``trainshed`` program against a real service: every noun from creation to deletion, in each format."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import yaml

from tests.support.leftovers import look_until_nothing
from tests.support.live_service import LiveService
from tests.support.program import PATIENCE, Program
from trainshed import __version__

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ON_C = ("-c", "c")


def job_file(folder: Path, command: str, **more: object) -> str:
    """Writes a job file in the original's format; its name."""
    properties = {
        "nodeCount": 1,
        "customToolkitSettings": {"commandLine": command},
        "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/logs",
        **more,
    }
    text = json.dumps({"$schema": "https://example.org/2018-05-01/job.json", "properties": properties}, indent=2)
    (folder / "job.json").write_text("// A comment, as the original's files have them.\n" + text)
    return "job.json"


def test_serve_writes_its_file_and_removes_it(tmp_path: Path) -> None:
    """``service.json`` is an interface: url, token and pid, for its owner only, while the service is ready."""
    home = tmp_path / "home"
    with Program(home, tmp_path).start("serve", "--home", str(home), "--stop-nodes") as serving:
        try:
            assert serving.stderr is not None
            announced = serving.stderr.readline()
            told = json.loads((home / "service.json").read_text())
            assert announced == f"Trainshed is ready at {told['url']} (home {home})\n"
            assert told == {"url": told["url"], "token": (home / "admin.token").read_text().strip(), "pid": serving.pid}
            modes = {
                path.name: path.stat().st_mode & 0o777 for path in (home, *home.glob("*.token"), home / "service.json")
            }
            assert modes == {"home": 0o700, "admin.token": 0o600, "service.json": 0o600}
            second = Program(home, tmp_path)("serve", "--home", str(home))
            assert (second.code, "running on" in second.err) == (1, True)
            os.kill(serving.pid, signal.SIGINT)
            assert serving.wait(PATIENCE) == 0
        finally:
            serving.kill()
    assert not (home / "service.json").exists()
    assert not look_until_nothing(home)


def test_without_a_service_the_way_out_is_told(tmp_path: Path) -> None:
    done = Program(tmp_path / "none", tmp_path)("job", "list")
    assert done.code == 1
    assert "error: " in done.err and "trainshed serve" in done.err


def test_status_doctor_and_version(trainshed: Program) -> None:
    status = trainshed.ok("status", "-o", "json").json
    assert status["ready"] is True
    assert "c" in [cluster["name"] for cluster in status["clusters"]]
    assert ": ready" in trainshed.ok("status").out
    # Exit code 0: nothing that is needed is missing; ssh and git may be.
    checked = trainshed.ok("doctor").out
    assert "is ready, pid" in checked and "accepted; " in checked
    assert trainshed.ok("version").out.startswith(f"trainshed {__version__} ")


def test_parents_from_creation_to_deletion(trainshed: Program) -> None:
    assert trainshed.ok("workspace", "create", "-n", "w1", "-l", "local", "-o", "json").json["name"] == "w1"
    assert trainshed.ok("experiment", "create", "-w", "w1", "-n", "e1", "-o", "quiet").out == "e1\n"
    assert trainshed.ok("workspace", "show", "-n", "w1", "-o", "json").json["location"] == "local"
    shown = yaml.safe_load(trainshed.ok("experiment", "show", "-w", "w1", "-n", "e1", "-o", "yaml").out)
    assert shown["type"] == "Microsoft.BatchAI/workspaces/experiments"
    listed = trainshed.ok("experiment", "list", "-w", "w1").out.splitlines()
    assert (listed[0].split()[0], listed[2].split()) == ("Name", ["e1", "trainshed", "w1", "succeeded"])
    refused = trainshed("workspace", "delete", "-n", "w1")
    assert (refused.code, "try: the same command with -y" in refused.err) == (1, True)
    trainshed.ok("experiment", "delete", "-w", "w1", "-n", "e1", "-y")
    trainshed.ok("workspace", "delete", "-n", "w1", "-y")
    gone = trainshed("workspace", "show", "-n", "w1")
    assert (gone.code, gone.err.startswith("error: WorkspaceNotFound: ")) == (3, True)
    assert "w1" not in trainshed.ok("workspace", "list", "-o", "quiet").out.split()


def test_a_cluster_is_made_resized_and_deleted(trainshed: Program, shared_service: LiveService) -> None:
    account = ("-u", "tester", "-p", "only-for-tests-1")
    made = trainshed.ok("cluster", "create", "-n", "grows", "-s", "Standard_D1", "-t", "1", *account, "-o", "json").json
    assert made["properties"]["vmSize"] == "STANDARD_D1"
    assert "only-for-tests-1" not in json.dumps(made)
    again = trainshed("cluster", "create", "-n", "grows", "-t", "1", *account)
    assert (again.code, again.err.startswith("error: ClusterExists: ")) == (1, True)
    trainshed.ok("cluster", "resize", "-n", "grows", "-t", "2")

    def idle_nodes() -> list[dict[str, str]]:
        nodes = trainshed.ok("cluster", "node", "list", "-n", "grows", "-o", "json").json
        return [node for node in nodes if node["state"] == "idle"]

    shared_service.wait_for(lambda: len(idle_nodes()) == 2, "two nodes")
    row = trainshed.ok("cluster", "show", "-n", "grows").out.splitlines()[2].split()
    assert row == ["grows", "trainshed", "default", "STANDARD_D1", "steady", "2", "0", "0", "0", "0", "local"]
    assert {"c", "grows"} <= set(trainshed.ok("cluster", "list", "-o", "quiet").out.split())
    trainshed.ok("cluster", "delete", "-n", "grows", "-y")
    assert trainshed("cluster", "show", "-n", "grows").code == 3


def test_a_job_from_its_file_to_its_files(trainshed: Program) -> None:
    deep = "$AZ_BATCHAI_OUTPUT_MODEL/deep"
    command = f"echo one; echo two; echo bad >&2; mkdir {deep}; echo m > {deep}/m"
    outputs = [{"id": "MODEL", "pathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/models"}]
    file = job_file(trainshed.folder, command, outputDirectories=outputs)
    made = trainshed.ok("job", "create", "-n", "whole", *ON_C, "-f", file, "-o", "json").json
    assert made["properties"]["toolType"] == "custom"
    waited = trainshed.ok("job", "wait", "-n", "whole", "--interval", "0.1")
    assert waited.err.startswith("job whole succeeded")
    row = trainshed.ok("job", "show", "-n", "whole").out.splitlines()[2].split()
    assert row[:8] == ["whole", "c", "trainshed", "default", "custom", "1", "succeeded", "0"]
    assert "whole" in trainshed.ok("job", "list", "-o", "quiet").out.split()
    assert trainshed.ok("job", "logs", "-f", "-n", "whole").out == "one\ntwo\n"
    assert trainshed.ok("job", "logs", "whole", "--stderr").out == "bad\n"
    assert trainshed.ok("job", "logs", "whole", "--tail", "1").out == "two\n"
    assert trainshed.ok("job", "files", "stream", "-j", "whole", "-f", "stderr.txt").out == "bad\n"
    listed = trainshed.ok("job", "files", "list", "-n", "whole", "-o", "json").json
    assert {"stdout.txt", "stderr.txt", "execution.log"} <= {entry["name"] for entry in listed}
    assert trainshed.ok("job", "file", "list", "-j", "whole", "-d", "MODEL").out.splitlines()[2].split()[:2] == [
        "deep",
        "directory",
    ]
    trainshed.ok("job", "files", "download", "-n", "whole", "--to", "all")
    found = {
        str(path.relative_to(trainshed.folder / "all"))
        for path in (trainshed.folder / "all").rglob("*")
        if path.is_file()
    }
    assert {"MODEL/deep/m", "stdouterr/stdout.txt", "stdouterr/stderr.txt"} <= found
    again = trainshed("job", "create", "-n", "whole", *ON_C, "-f", file)
    assert (again.code, again.err.startswith("error: JobExists: ")) == (1, True)
    trainshed.ok("job", "delete", "-n", "whole", "-y")
    assert trainshed("job", "show", "-n", "whole").code == 3


def test_a_live_log_is_followed(trainshed: Program, shared_service: LiveService) -> None:
    gate = trainshed.folder / "gate"
    file = job_file(trainshed.folder, f"echo first; while [ ! -e {gate} ]; do sleep 0.05; done; echo last")
    trainshed.ok("job", "create", "-n", "live", *ON_C, "-f", file)
    with trainshed.start("job", "logs", "-f", "-n", "live") as following:
        try:
            assert following.stdout is not None
            assert following.stdout.readline() == "first\n"
            assert shared_service.client.jobs.get("live").execution_state.value == "running"
            gate.touch()
            rest, _ = following.communicate(timeout=PATIENCE)
        finally:
            following.kill()
    assert (following.returncode, rest) == (0, "last\n")


@pytest.mark.parametrize(("name", "command", "code"), [("well", "exit 0", 0), ("badly", "exit 9", 9)])
def test_wait_exits_as_the_job(trainshed: Program, name: str, command: str, code: int) -> None:
    trainshed.ok("job", "create", "-n", name, *ON_C, "-f", job_file(trainshed.folder, command))
    assert trainshed("job", "wait", "-n", name, "--interval", "0.1").code == code


def test_a_terminated_job(trainshed: Program) -> None:
    trainshed.ok("job", "create", "-n", "stopped", *ON_C, "-f", job_file(trainshed.folder, "sleep 1000"))
    waited = trainshed("job", "wait", "-n", "stopped", "--timeout", "0.3")
    assert (waited.code, "is still" in waited.err) == (1, True)
    assert trainshed.ok("job", "terminate", "-n", "stopped", "-y").err == "job stopped was terminated\n"
    ended = trainshed("job", "wait", "-n", "stopped")
    assert (ended.code, "was terminated" in ended.err) == (143, True)
    assert "JobTerminated" in trainshed.ok("job", "explain", "-n", "stopped").out


def test_a_waiting_job_says_why(trainshed: Program, shared_service: LiveService) -> None:
    file = job_file(trainshed.folder, "true", nodeCount=3)
    trainshed.ok("job", "create", "-n", "large", *ON_C, "-f", file)
    told = shared_service.wait_for(
        lambda: trainshed.ok("job", "explain", "-n", "large", "-o", "json").json.get("whyWaiting"), "the reason"
    )
    assert told["code"] and "3" in told["message"]
    assert trainshed.ok("job", "delete", "-n", "large", "-y").err == "deleted job large\n"


def test_create_sends_code_on_demand(trainshed: Program) -> None:
    code = trainshed.folder / "code"
    code.mkdir()
    (code / "hello.py").write_text("print('from the folder')\n")
    file = job_file(trainshed.folder, "python hello.py")
    trainshed.ok("job", "create", "-n", "coded", *ON_C, "-f", file, "--code", "code")
    trainshed.ok("job", "wait", "-n", "coded", "--interval", "0.1")
    assert trainshed.ok("job", "logs", "-n", "coded").out == "from the folder\n"
