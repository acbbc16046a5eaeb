"""The commands of ``az batchai`` 0.4.10 as a user types them, each in a process of its own, on a live service."""

from __future__ import annotations

import json
import os
import queue
import shlex
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from tests.clients.install import CLIENTS, ROOT
from tests.e2e.clients.runs import QUOTAS
from tests.support.live_service import LiveService
from tests.support.services import running

CLIENT = CLIENTS["az-0.4.10"]
START = ROOT / "examples" / "azure-cli" / "az.py"
FORKS = ROOT / "tests" / "clients" / "scripts" / "az_forks.py"
#: Commands at a time: most of their time is waiting for an operation's end.
TOGETHER = 3
RECIPES = sorted((ROOT.parent / "shared" / "reference" / "recipes").glob("*.job.json"))
SUBSCRIPTION = "00000000-0000-0000-0000-000000000000"
#: Seconds for one command.
PATIENCE = 60.0
WS = "-g azGroup -w whole"
EXP = f"{WS} -e first"
ADMIN = "-u tester -p only-for-tests-1"
ACCOUNT = "azrecipes"
GROWING = "echo first; while [ ! -e {gate} ]; do sleep 0.05; done; echo second"

#: The commands as the installed packages name them.
_COMMANDS = """
import sys
sys.path.insert(0, {folder!r})
import az
az.restore_names()
from azure.cli.core import get_default_cli, MainCommandsLoader
loader = MainCommandsLoader(get_default_cli())
print("\\n".join(sorted(name for name in loader.load_command_table([]) if name.startswith("batchai "))))
"""

Told = dict[str, Any]


class Forks:
    """An interpreter that has imported everything, whose forks run one command after another."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self._folder = folder
        self._process = subprocess.Popen(
            [CLIENT.interpreter, "-W", "ignore", str(FORKS), str(START)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdout is not None and self._process.stdout.readline() == "ready\n"

    def run(self, argv: list[str], environment: dict[str, str]) -> tuple[int, str, str]:
        """Exit status, output and errors of a command."""
        out, err = (self._folder / f"{self._process.pid}.{kind}" for kind in ("out", "err"))
        asked = {"argv": argv, "env": environment, "cwd": str(self._folder), "out": str(out), "err": str(err)}
        assert self._process.stdin is not None and self._process.stdout is not None
        watchdog = threading.Timer(PATIENCE, os.killpg, (self._process.pid, signal.SIGKILL))
        watchdog.start()
        try:
            print(json.dumps(asked), file=self._process.stdin, flush=True)
            code = self._process.stdout.readline()
        finally:
            watchdog.cancel()
        assert code, f"az {' '.join(argv)} did not end within {PATIENCE:g} s"
        return int(code), out.read_text(), err.read_text()

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(PATIENCE)


class Az:
    """Runs commands and keeps, under the name of a step, how each ended and what it printed."""

    def __init__(self, service: LiveService, folder: Path) -> None:
        self.service = service
        self.folder = folder
        self.steps: dict[str, Told] = {}
        self._idle: queue.SimpleQueue[Forks] = queue.SimpleQueue()

    def __enter__(self) -> Az:
        for _ in range(TOGETHER):
            self._idle.put(Forks(self.environment(), self.folder))
        return self

    def __exit__(self, *_: object) -> None:
        for _ in range(TOGETHER):
            self._idle.get(timeout=PATIENCE).close()

    def environment(self, **more: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TRAINSHED_", "AZURE_"))}
        return {
            **kept,
            "HOME": str(self.folder),
            "TRAINSHED_HOME": str(self.service.home),
            "AZURE_CONFIG_DIR": str(self.folder / "azure"),
            "COLUMNS": "200",
            **more,
        }

    def start(self, command: str, **environment: str) -> subprocess.Popen[str]:
        """Run ``az`` in a shell's manner and go on."""
        return subprocess.Popen(
            [CLIENT.interpreter, str(START), *shlex.split(command)],
            cwd=self.folder,
            env=self.environment(**environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, name: str, command: str, **environment: str) -> None:
        """Run a command to its end and keep it."""
        forks = self._idle.get(timeout=PATIENCE * TOGETHER)
        try:
            ended = forks.run(shlex.split(command), self.environment(**environment))
        finally:
            self._idle.put(forks)
        self.keep(name, command, ended)

    def finish(self, name: str, command: str, process: subprocess.Popen[str]) -> None:
        """Wait for a command that was started, and keep it."""
        try:
            out, err = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        self.keep(name, command, (process.returncode, out, err))

    def keep(self, name: str, command: str, ended: tuple[int, str, str]) -> None:
        assert name not in self.steps, f"two steps are called {name}"
        self.steps[name] = {"command": command, "code": ended[0], "out": ended[1], "err": ended[2]}

    def together(self, **commands: str) -> None:
        """Commands that have nothing to do with one another, some at a time; names have ``_`` for spaces."""
        with ThreadPoolExecutor(TOGETHER) as pool:
            list(pool.map(lambda item: self(item[0].replace("_", " "), item[1]), commands.items()))


def commands() -> list[str]:
    """Every command of ``az batchai``, asked of the installed packages."""
    done = subprocess.run(
        [CLIENT.interpreter, "-W", "ignore", "-c", _COMMANDS.format(folder=str(START.parent))],
        env={**os.environ, "AZURE_CONFIG_DIR": str(CLIENT.folder / "config")},
        text=True,
        capture_output=True,
        timeout=PATIENCE,
        check=True,
    )
    return done.stdout.split("\n")[:-1]


def run(home: Path) -> dict[str, Any]:
    """Everything, once: the commands that there are, and how each step ended."""
    folder = home.parent / "user"
    folder.mkdir()
    home.mkdir(mode=0o700)
    (home / "quotas.json").write_text(json.dumps({"*": {**QUOTAS["*"], "Clusters": 20}}))
    with running(home) as service:
        with Az(service, folder) as az:
            _containers(az)
            _file_servers(az)
            _clusters(az)
            _jobs(az)
            _recipes(az)
            made = sorted(str(path.relative_to(home)) for path in (home / "storage" / ACCOUNT).glob("*/*"))
            _deletions(az)
    return {"commands": commands(), "steps": az.steps, "storage": made}


def _containers(az: Az) -> None:
    az("workspace created", "batchai workspace create -g azGroup -n whole -l northeurope")
    stranger = "batchai workspace list"
    process = az.start(stranger, TRAINSHED_TOKEN="not-a-token", AZURE_CONFIG_DIR=str(az.folder / "stranger"))
    az.finish("wrong token", stranger, process)
    az.together(
        workspace_in_the_groups_region="batchai workspace create -g azGroup -n second",
        workspace_in_an_absent_group="batchai workspace create -g nowhere -n whole",
        workspace_moved="batchai workspace create -g azGroup -n whole -l westus",
        workspace_shown="batchai workspace show -g azGroup -n whole",
        absent_workspace="batchai workspace show -g azGroup -n absent",
        experiment_created=f"batchai experiment create {WS} -n first",
        second_experiment=f"batchai experiment create {WS} -n second",
        experiment_in_an_absent_workspace="batchai experiment create -g azGroup -w absent -n first",
    )
    az.together(
        workspaces="batchai workspace list",
        workspaces_as_a_table="batchai workspace list -g azGroup -o table",
        workspace_as_a_table="batchai workspace show -g azGroup -n whole -o table",
        experiments=f"batchai experiment list {WS} -o table",
        experiment_shown=f"batchai experiment show {WS} -n first",
        absent_experiment=f"batchai experiment show {WS} -n absent",
    )


def _file_servers(az: Az) -> None:
    disks = "--disk-count 2 --disk-size 10 --storage-sku Premium_LRS"
    az.together(
        file_server_created=f"batchai file-server create {WS} -n files -s Standard_D2 {disks} {ADMIN}",
        second_file_server=f"batchai file-server create {WS} -n more -s Standard_D2 {disks} {ADMIN}",
        file_server_of_unknown_size=f"batchai file-server create {WS} -n bad -s Standard_Abacus {disks} {ADMIN}",
    )
    az.together(
        file_server_created_again=f"batchai file-server create {WS} -n files -s Standard_D2 {disks} {ADMIN}",
        file_server_shown=f"batchai file-server show {WS} -n files",
        file_server_as_a_table=f"batchai file-server show {WS} -n files -o table",
        file_servers=f"batchai file-server list {WS} -o table",
        absent_file_server=f"batchai file-server show {WS} -n absent",
    )


def _clusters(az: Az) -> None:
    _embedded_account(az)
    (az.folder / "cluster.json").write_text(json.dumps(CLUSTER_FILE))
    storage = f"--storage-account-name {ACCOUNT} --afs-name logs --bfs-name data"
    az.together(
        cluster_created=f"batchai cluster create {WS} -n pair -s Standard_D1 -t 2 {ADMIN}",
        cluster_that_scales_itself=f"batchai cluster create {WS} -n auto -s Standard_D1 --min 0 --max 2 {ADMIN}",
        cluster_of_a_file=f"batchai cluster create {WS} -n filed -f cluster.json --nfs files {ADMIN}",
        # Without a key: it is looked up with the account's provider.
        cluster_with_storage=f"batchai cluster create {WS} -n stored -s Standard_D1 -t 0 {storage} {ADMIN}",
        cluster_with_unknown_storage=(
            f"batchai cluster create {WS} -n bad -s Standard_D1 -t 0 --storage-account-name absent --afs-name a {ADMIN}"
        ),
        cluster_for_recipes=f"batchai cluster create {WS} -n gpus -s Standard_NC6 -t 0 {ADMIN}",
        cluster_of_unknown_size=f"batchai cluster create {WS} -n bad -s Standard_Abacus -t 1 {ADMIN}",
        cluster_beyond_the_quota=f"batchai cluster create {WS} -n bad -s Standard_NC6 -t 3 {ADMIN}",
    )
    az.together(
        cluster_created_again=f"batchai cluster create {WS} -n pair -s Standard_D1 -t 2 {ADMIN}",
        cluster_shown=f"batchai cluster show {WS} -n pair",
        cluster_as_a_table=f"batchai cluster show {WS} -n pair -o table",
        clusters=f"batchai cluster list {WS} -o table",
        clusters_as_json=f"batchai cluster list {WS}",
        absent_cluster=f"batchai cluster show {WS} -n absent",
        nodes=f"batchai cluster node list {WS} -c pair",
        cluster_resized=f"batchai cluster resize {WS} -n auto -t 0",
        cluster_resized_beyond_the_quota=f"batchai cluster resize {WS} -n gpus -t 3",
        absent_cluster_resized=f"batchai cluster resize {WS} -n absent -t 0",
        setup_files=f"batchai cluster file list {WS} -c pair",
        file_server_in_use_deleted=f"batchai file-server delete {WS} -n files -y",
        usages="batchai list-usages -l northeurope -o table",
    )
    az("cluster to auto-scale", f"batchai cluster auto-scale {WS} -n auto --min 0 --max 1")


def _jobs(az: Az) -> None:
    gate = az.folder / "gate"
    for name, command in {
        "job.json": "echo hello from $(hostname); echo made > $AZ_BATCHAI_OUTPUT_MODEL/model.txt",
        "failing.json": "echo about to fail; exit 7",
        "endless.json": "sleep 1000",
        "growing.json": GROWING.format(gate=gate),
    }.items():
        (az.folder / name).write_text(json.dumps(_job_file(command)))
    group = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/azGroup"
    pair = f"{group}/providers/Microsoft.BatchAI/workspaces/whole/clusters/pair"
    az.together(
        job_created=f"batchai job create {EXP} -n first -c {pair} -f job.json",
        failing_job=f"batchai job create {EXP} -n failing -c pair -f failing.json",
        endless_job=f"batchai job create {EXP} -n endless -c pair -f endless.json",
        queued_job=f"batchai job create {EXP} -n queued -c gpus -f job.json",
        job_on_an_absent_cluster=f"batchai job create {EXP} -n bad -c absent -f job.json",
        job_in_an_absent_experiment=f"batchai job create {WS} -e absent -n bad -c pair -f job.json",
    )
    az.together(
        job_waited_for=f"batchai job wait {EXP} -n first --interval 1",
        failing_job_waited_for=f"batchai job wait {EXP} -n failing --interval 1",
    )
    _stream(az, gate)
    az.together(
        endless_job_terminated=f"batchai job terminate {EXP} -n endless -y",
        queued_job_terminated=f"batchai job terminate {EXP} -n queued -y",
        finished_job_terminated=f"batchai job terminate {EXP} -n first -y",
        absent_job_terminated=f"batchai job terminate {EXP} -n absent -y",
        job_created_again=f"batchai job create {EXP} -n first -c pair -f job.json",
        job_shown=f"batchai job show {EXP} -n first",
        job_as_a_table=f"batchai job show {EXP} -n first -o table",
        absent_job=f"batchai job show {EXP} -n absent",
        files=f"batchai job file list {EXP} -j first",
        files_as_a_table=f"batchai job file list {EXP} -j first -o table",
        model_files=f"batchai job file list {EXP} -j first -d MODEL --expiry 5",
        files_of_an_unknown_directory=f"batchai job file list {EXP} -j first -d UNKNOWN",
        finished_file_streamed=f"batchai job file stream {EXP} -j first -d MODEL -f model.txt",
        absent_file_streamed=f"batchai job file stream {EXP} -j first -f absent.txt",
        job_nodes=f"batchai job node list {EXP} -j first",
    )
    az.together(
        endless_job_waited_for=f"batchai job wait {EXP} -n endless",
        jobs=f"batchai job list {EXP} -o table",
        jobs_as_json=f"batchai job list {EXP}",
    )


def _stream(az: Az, gate: Path) -> None:
    """A log that grows while it is read: the job goes on when the first line was printed."""
    az("growing job", f"batchai job create {EXP} -n growing -c pair -f growing.json")
    command = f"batchai job file stream {EXP} -j growing -f stdout.txt"
    streaming = az.start(command, PYTHONUNBUFFERED="1")
    assert streaming.stdout is not None
    first = streaming.stdout.readline()
    gate.touch()
    az.finish("growing file streamed", command, streaming)
    az.steps["growing file streamed"]["first"] = first
    az("growing job's files", f"batchai job file list {EXP} -j growing")


def _recipes(az: Az) -> None:
    keyed = {"AZURE_BATCHAI_STORAGE_ACCOUNT": ACCOUNT, "AZURE_BATCHAI_STORAGE_KEY": "a2V5"}

    def submit(recipe: Path) -> None:
        az(f"recipe {recipe.name}", f"batchai job create {EXP} -n {_plain(recipe)} -c gpus -f {recipe}", **keyed)

    with ThreadPoolExecutor(TOGETHER) as pool:
        list(pool.map(submit, RECIPES))


def _deletions(az: Az) -> None:
    az.together(
        job_deleted=f"batchai job delete {EXP} -n first -y",
        absent_job_deleted=f"batchai job delete {EXP} -n absent -y",
        cluster_deleted=f"batchai cluster delete {WS} -n filed -y",
        experiment_deleted=f"batchai experiment delete {WS} -n second -y",
        file_server_deleted=f"batchai file-server delete {WS} -n more -y",
    )
    az.together(
        job_after_its_deletion=f"batchai job show {EXP} -n first",
        cluster_after_its_deletion=f"batchai cluster show {WS} -n filed",
        experiment_after_its_deletion=f"batchai experiment show {WS} -n second",
        file_server_after_its_deletion=f"batchai file-server show {WS} -n more",
        workspace_deleted="batchai workspace delete -g azGroup -n whole -y",
    )
    az("workspace after its deletion", "batchai workspace show -g azGroup -n whole")


def _embedded_account(az: Az) -> None:
    """A storage account of the service's own; ``az storage`` is not among the installed commands."""
    told = az.service.told()
    answer = httpx.put(
        f"{told['url']}/subscriptions/{SUBSCRIPTION}/resourceGroups/azGroup"
        f"/providers/Microsoft.Storage/storageAccounts/{ACCOUNT}",
        params={"api-version": "2019-04-01"},
        headers={"Authorization": f"Bearer {told['token']}"},
        json={"location": "northeurope", "sku": {"name": "Standard_LRS"}, "kind": "Storage"},
        timeout=PATIENCE,
    )
    assert answer.status_code in (200, 202), answer.text


def _job_file(command: str) -> dict[str, Any]:
    return {
        "$schema": "https://raw.githubusercontent.com/Azure/BatchAI/master/schemas/2018-05-01/job.json",
        "properties": {
            "nodeCount": 1,
            "customToolkitSettings": {"commandLine": command},
            "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/logs",
            "outputDirectories": [{"id": "MODEL", "pathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/models"}],
        },
    }


def _plain(recipe: Path) -> str:
    return recipe.name.removesuffix(".job.json")


CLUSTER_FILE = {
    "$schema": "https://raw.githubusercontent.com/Azure/BatchAI/master/schemas/2018-05-01/cluster.json",
    "location": "eastus",
    "properties": {
        "vmSize": "STANDARD_D1",
        "vmPriority": "lowpriority",
        "scaleSettings": {"autoScale": {"minimumNodeCount": 0, "maximumNodeCount": 1}},
        "nodeSetup": {
            "setupTask": {
                "commandLine": "echo prepared",
                "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/setup",
                "runElevated": False,
            }
        },
    },
}
