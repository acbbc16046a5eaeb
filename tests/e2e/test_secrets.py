"""Secrets go in and never come out: a run with marked ones, and then a look at everything that was written.

The run has jobs that succeed, fail and are tried again, a node that cannot be set up, requests that are refused, and a
``kill -9`` of the service in the middle.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.leftovers import look_until_nothing
from tests.support.live_service import LiveService
from tests.support.marks import Marks, ProcessWatch, mark, names
from trainshed.identity.keyvault_files import FileKeyVault
from trainshed.resources.keyvault import SecretName

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

NEW, OLD = "2026-11-01", "2018-05-01"
IDENTITY = "/providers/Trainshed.Identity"
SUBSCRIPTION = "/subscriptions/00000000-0000-0000-0000-000000000000"
WS = f"{SUBSCRIPTION}/resourceGroups/trainshed/providers/Microsoft.BatchAI/workspaces/default"
EXPERIMENT = f"{WS}/experiments/default"
LOGS = "$AZ_BATCHAI_MOUNT_ROOT/logs"
#: Files that exist to hold a secret: private, and read by the service alone.
KEPT = ("admin.token", "service.json", "keyvault/*/*")
#: What the user's own task printed.
PRINTED = "*stderr*.txt"
#: Longest wait for a job or node, in seconds.
LONG = 60.0


@dataclass
class Evidence:
    """What the run left to look at."""

    marks: Marks
    home: Path
    #: Every answer of the service: request, status, headers and body.
    answers: list[tuple[str, bytes]]
    #: Files of the home while the service ran, and when it was stopped; and what is elsewhere.
    while_running: dict[str, set[str]]
    afterwards: dict[str, set[str]]
    elsewhere: dict[str, set[str]]
    processes: ProcessWatch


class Run:
    """The run, step by step."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.marks = Marks()
        self.answers: list[tuple[str, bytes]] = []
        self.token = self.marks.add("admin token")
        key = self.marks.add("vault key", hashlib.sha256(b"vault").digest())
        self.home.mkdir(mode=0o700)
        token = self.home / "admin.token"
        token.touch(0o600)
        token.write_text(f"{self.token}\n")
        vaults = FileKeyVault(self.home / "keyvault")
        for name in ("for-jobs", "for-setup"):
            vaults.set(SecretName("research", name), self.marks.add(f"key vault {name}"))
        vaults.allow("research", frozenset({"*"}))
        temporary = folder / "tmp"
        temporary.mkdir()
        password = self.marks.add("password of the TLS key")
        variables = {"TRAINSHED_VAULT_KEY": key, "TRAINSHED_TLS_KEY_PASSWORD": password, "TMPDIR": str(temporary)}
        self.service = LiveService(self.home, more=variables)

    def send(
        self, method: str, path: str, body: Any = None, *, version: str = NEW, keep: bool = True, **headers: str
    ) -> httpx.Response:
        """One request, whose answer is kept, unless it is the one that has to have the secret."""
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        sent = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json", **headers}
        join = "&" if "?" in path else "?"
        with httpx.Client(base_url=self.service.told()["url"], trust_env=False) as client:
            answer = client.request(method, f"{path}{join}api-version={version}", content=content, headers=sent)
        told = "\n".join(f"{name}: {value}" for name, value in answer.headers.items())
        if keep:
            self.answers.append((f"{method} {path}", told.encode() + b"\n" + answer.content))
        return answer

    def put(self, path: str, properties: dict[str, Any]) -> None:
        answer = self.send("PUT", path, {"properties": properties})
        assert answer.status_code in (200, 202), answer.text

    def reference(self, name: str) -> dict[str, Any]:
        return {
            "sourceVault": {"id": f"{SUBSCRIPTION}/resourceGroups/g/providers/Microsoft.KeyVault/vaults/research"},
            "secretUrl": f"https://research.vault.azure.net/secrets/{name}",
        }

    def cluster(self, name: str, **more: Any) -> None:
        self.put(
            f"{WS}/clusters/{name}",
            {
                "vmSize": "STANDARD_D1",
                "scaleSettings": {"manual": {"targetNodeCount": 1}},
                "userAccountSettings": {
                    "adminUserName": "tester",
                    "adminUserPassword": self.marks.add(f"password of {name}"),
                },
                **more,
            },
        )

    def job(self, name: str, command: str, **more: Any) -> None:
        self.put(
            f"{EXPERIMENT}/jobs/{name}",
            {
                "cluster": {"id": f"{WS}/clusters/good"},
                "nodeCount": 1,
                "stdOutErrPathPrefix": LOGS,
                "customToolkitSettings": {"commandLine": command},
                **more,
            },
        )

    def properties(self, path: str) -> dict[str, Any]:
        answer = self.send("GET", path)
        return dict(answer.json()["properties"]) if answer.status_code == 200 else {}

    def make_callers(self) -> None:
        """A user with a token, right and wrong, and a storage account with its keys."""
        self.send("PUT", f"{IDENTITY}/principals/ann", {})
        wanted = {"properties": {"displayName": "laptop"}}
        made = self.send("POST", f"{IDENTITY}/principals/ann/tokens", wanted, keep=False)
        token = self.marks.add("access token", made.json()["properties"]["token"])
        self.marks.add("secret part of the access token", token.split("_", 2)[2])
        for shown in (token, token[:-1], f"{token}x"):
            self.send("GET", f"{IDENTITY}/me", Authorization=f"Bearer {shown}")
        account = f"{WS.partition('/providers/')[0]}/providers/Microsoft.Storage/storageAccounts/kept"
        self.send("PUT", account, {"location": "local", "kind": "Storage", "sku": {"name": "Standard_LRS"}})
        keys = self.send("POST", f"{account}/listKeys", keep=False).json()["keys"]
        for entry in keys:
            self.marks.add(f"storage {entry['keyName']}", entry["value"])
            self.marks.add(f"storage {entry['keyName']}, decoded", base64.b64decode(entry["value"]))

    def make_clusters(self) -> None:
        """One whose setup succeeds, and one whose setup prints its secret and fails."""
        self.send("PUT", WS, {"location": "local"})
        self.send("PUT", EXPERIMENT)
        secrets = [
            {"name": "SETUP", "value": self.marks.add("setup secret")},
            {"name": "SETUP_VAULTED", "valueSecretReference": self.reference("for-setup")},
        ]
        counters = {
            "appInsightsReference": {"component": {"id": "/c"}, "instrumentationKey": self.marks.add("insights key")}
        }
        length = len(mark("x"))
        good = {
            "commandLine": f"[ ${{#SETUP}} -eq {length} ] && [ ${{#SETUP_VAULTED}} -eq {length} ] && sleep 0.3",
            "stdOutErrPathPrefix": LOGS,
            "secrets": secrets,
        }
        self.cluster("good", nodeSetup={"setupTask": good, "performanceCountersSettings": counters})
        printed = {"name": "SETUP", "value": self.marks.add("printed setup secret")}
        bad = {
            "commandLine": "echo it fails with $SETUP >&2; exit 3",
            "stdOutErrPathPrefix": LOGS,
            "secrets": [printed],
        }
        self.cluster("bad", nodeSetup={"setupTask": bad})
        good_nodes, bad_nodes = (f"{WS}/clusters/{name}" for name in ("good", "bad"))
        self.wait(lambda: self.properties(good_nodes)["nodeStateCounts"]["idleNodeCount"] == 1, "a node")
        self.wait(lambda: self.properties(bad_nodes)["nodeStateCounts"]["unusableNodeCount"] == 1, "a node that fails")

    def submit(self) -> None:
        """A job that waits for the file ``go`` with its secrets, and others behind it that fail in several ways."""
        length = len(mark("x"))
        values = [
            {"name": "TOKEN", "value": self.marks.add("job secret")},
            {"name": "VAULTED", "valueSecretReference": self.reference("for-jobs")},
        ]
        self.job(
            "waits",
            f"[ ${{#TOKEN}} -eq {length} ] && [ ${{#VAULTED}} -eq {length} ] || exit 9; "
            "touch $AZ_BATCHAI_MOUNT_ROOT/here; "
            "until [ -e $AZ_BATCHAI_MOUNT_ROOT/go ]; do sleep 0.05; done",
            secrets=values,
            jobPreparation={"commandLine": f"[ ${{#TOKEN}} -eq {length} ]"},
        )
        self.job(
            "fails",
            "exit 3",
            secrets=[{"name": "TOKEN", "value": self.marks.add("secret of the job that fails")}],
            retryPolicy={"maxRetries": 1, "backoff": {"initialDelay": "PT0S"}},
        )
        self.job(
            "mounts",
            "true",
            mountVolumes={
                "azureFileShares": [
                    {
                        "accountName": "nowhere",
                        "azureFileUrl": "https://127.0.0.1/share",  # where nobody listens
                        "relativeMountPath": "share",
                        "credentials": {"accountKey": self.marks.add("account key")},
                    }
                ]
            },
        )
        registry = {
            "serverUrl": "127.0.0.1:9",
            "image": "image",
            "credentials": {"username": "u", "password": self.marks.add("registry password")},
        }
        self.job("contained", "true", containerSettings={"imageSourceRegistry": registry})

    def send_nonsense(self) -> None:
        """Secrets in places where they are refused."""
        value = self.marks.add("misplaced secret")
        job = {
            "cluster": {"id": f"{WS}/clusters/good"},
            "nodeCount": 1,
            "stdOutErrPathPrefix": LOGS,
            "customToolkitSettings": {"commandLine": "true"},
        }
        wrong: list[Any] = [
            {**job, "secrets": value},
            {**job, "secrets": [value]},
            {**job, "secrets": [{"name": "T", "value": [value]}]},
            {**job, "secrets": [{"name": "T", "value": {"is": value}}]},
            {**job, "secrets": [{"name": "AZ_BATCHAI_X", "value": value}]},
            {**job, "secrets": [{"name": "T", "value": value}, {"name": "T", "value": value}]},
            {**job, "secrets": [{"name": "T", "value": value, "valueSecretReference": self.reference("for-jobs")}]},
            {**job, "secrets": [{"name": "T", "valueSecretReference": value}]},
            {**job, "nodeCount": "one", "secrets": [{"name": "T", "value": value}]},
            {**job, "containerSettings": {"imageSourceRegistry": {"image": "i", "credentials": value}}},
            {**job, "mountVolumes": {"azureFileShares": [{"credentials": {"accountKey": [value]}}]}},
            {**job, "cluster": {"id": f"{WS}/clusters/none"}, "secrets": [{"name": "T", "value": value}]},
        ]
        for properties in wrong:
            for version in (OLD, NEW):
                answer = self.send("PUT", f"{EXPERIMENT}/jobs/wrong", {"properties": properties}, version=version)
                assert answer.status_code == 400, (properties, answer.text)
        for body in (b'{"properties": {"secrets": "' + value.encode(), b"\xff" + value.encode(), value.encode()):
            assert self.send("PUT", f"{EXPERIMENT}/jobs/wrong", body).status_code == 400
        assert self.send("GET", WS, Authorization=f"Bearer {value}").status_code == 401
        assert self.send("GET", WS, Authorization=f"Basic {value}").status_code == 401
        changed = {**job, "secrets": [{"name": "OTHER", "value": value}]}
        assert self.send("PUT", f"{EXPERIMENT}/jobs/waits", {"properties": changed}).status_code == 409

    def read_everything(self) -> None:
        """Every route that shows something."""
        provider = f"{SUBSCRIPTION}/providers/Microsoft.BatchAI"
        for version in (OLD, NEW):
            for path in ("", "/clusters", "/experiments", "/clusters/good", "/clusters/bad", "/fileServers"):
                self.send("GET", f"{WS}{path}", version=version)
            self.send("GET", f"{EXPERIMENT}/jobs", version=version)
            self.send("GET", f"{provider}/workspaces", version=version)
            self.send("GET", f"{provider}/locations/local/usages", version=version)
            for job in ("waits", "fails", "mounts", "contained"):
                self.send("GET", f"{EXPERIMENT}/jobs/{job}", version=version)
                files = "listOutputFiles?outputdirectoryid=stdouterr"
                self.send("POST", f"{EXPERIMENT}/jobs/{job}/{files}", version=version)
        for job in ("waits", "fails", "mounts", "contained"):
            for part in ("attempts", "events", "logs/execution.log", "logs/stdout.txt", "logs/stderr.txt"):
                self.send("GET", f"{EXPERIMENT}/jobs/{job}/{part}")
        for cluster in ("good", "bad"):
            for part in ("nodes", "events"):
                self.send("GET", f"{WS}/clusters/{cluster}/{part}")
        callers = (f"{IDENTITY}/principals", f"{IDENTITY}/principals/ann/tokens", "/providers/Trainshed.Audit/entries")
        accounts = f"{SUBSCRIPTION}/providers/Microsoft.Storage/storageAccounts"
        for path in (*callers, accounts, "/openapi.json", "/metrics", "/readyz", "/healthz"):
            self.send("GET", path)

    def wait(self, check: Any, what: str) -> None:
        self.service.wait_for(check, what, LONG)

    def in_state(self, job: str, state: str) -> bool:
        return self.properties(f"{EXPERIMENT}/jobs/{job}").get("executionState") == state

    def go(self) -> Evidence:
        """All of it. The service is stopped at the end."""
        with ProcessWatch(self.marks, self.home) as processes:
            try:
                self.service.start()
                self.make_clusters()
                self.submit()
                processes.watch(self.marks)
                self.wait(lambda: list(self.home.glob("clusters/*/mounts/here")), "the job's start")
                self.wait(lambda: {"job secret", "key vault for-jobs"} <= names(processes.users), "its environment")
                self.make_callers()
                self.send_nonsense()
                processes.watch(self.marks)
                self.service.kill()
                self.service.start()
                self.read_everything()
                while_running = self.marks.in_files(self.home, allowed=KEPT)
                [here] = self.home.glob("clusters/*/mounts/here")
                here.with_name("go").touch()
                self.wait(lambda: self.in_state("waits", "succeeded"), "the job's success")
                for job in ("fails", "mounts", "contained"):
                    self.wait(lambda job=job: self.in_state(job, "failed"), f"the end of {job}")
                assert self.properties(f"{EXPERIMENT}/jobs/fails")["attempt"] == 2
                self.read_everything()
            finally:
                self.service.stop()
        assert not look_until_nothing(self.home)
        elsewhere = self.marks.in_files(self.folder, allowed=("home/*", *(f"home/{'*/' * n}*" for n in range(1, 20))))
        return Evidence(
            self.marks, self.home, self.answers, while_running, self.marks.in_files(self.home, allowed=KEPT),
            elsewhere, processes,
        )  # fmt: skip


def test_a_mark_is_found_in_every_form(tmp_path: Path) -> None:
    """The look itself sees what it is to see."""
    marks = Marks()
    value = marks.add("a").encode()
    for offset in range(4):
        noise = bytes(range(65, 65 + offset))
        (tmp_path / f"{offset}").write_bytes(base64.b64encode(noise + value + noise))
    (tmp_path / "16").write_bytes(b"x" + value.decode().encode("utf-16-le"))
    (tmp_path / "hex").write_bytes(value.hex().encode())
    (tmp_path / value.decode()).write_bytes(b"")
    (tmp_path / "none").write_bytes(value[:-1] + b"?")
    assert set(marks.in_files(tmp_path)) == {"0", "1", "2", "3", "16", "hex", value.decode()}
    assert marks.in_files(tmp_path, allowed=["?", "16", "hex"]) == {value.decode(): {"a"}}


def test_secrets_go_in_and_never_come_out(tmp_path: Path) -> None:
    """One run, looked at from every side: what came out where, all of it in one answer."""
    evidence = Run(tmp_path).go()
    processes, marks = evidence.processes, evidence.marks
    given = {(name, command) for name, command in processes.service if " trainshed serve " in command}
    came_out = {
        "files while the service runs": _not_printed(evidence.while_running),
        "files that it leaves": _not_printed(evidence.afterwards),
        "log and temporary files": evidence.elsewhere,
        "answers": {request: found for request, answer in evidence.answers if (found := marks.in_bytes(answer))},
        "command lines": processes.commands,
        "environment of the service's processes": processes.service - given,
        "environment of jobs": names(processes.users) - ALLOWED_IN_JOBS,
        "environment of another's job": {
            (name, command)
            for name, command in processes.users
            if "mounts/go" in command and name not in ("job secret", "key vault for-jobs")
        },
        "files that others can read": {
            str(path)
            for pattern in ("admin.token", "keyvault/*/*", "trainshed.db*")
            for path in evidence.home.glob(pattern)
            if path.stat().st_mode & 0o077
        },
    }
    assert {where: found for where, found in came_out.items() if found} == {}
    _the_look_was_not_blind(evidence, names(given))


#: What a user's own command may have in its environment.
ALLOWED_IN_JOBS = {
    "job secret",
    "key vault for-jobs",
    "setup secret",
    "key vault for-setup",
    "secret of the job that fails",
    "printed setup secret",
}


def _the_look_was_not_blind(evidence: Evidence, given: set[str]) -> None:
    """Where secrets have to be, they were seen."""
    assert given == {"vault key", "password of the TLS key"}
    assert {"job secret", "key vault for-jobs"} <= names(evidence.processes.users)
    assert evidence.afterwards != _not_printed(evidence.afterwards)
    assert evidence.processes.rounds > 20
    assert len(evidence.answers) > 100
    assert (evidence.home.parent / "home.log").stat().st_size > 0
    assert list(evidence.home.glob("trainshed.db*"))


def _not_printed(hits: dict[str, set[str]]) -> dict[str, set[str]]:
    """Hits but for what the user's own setup task wrote into its own log."""
    return {
        path: found
        for path, found in hits.items()
        if not (Path(path).match(PRINTED) and found == {"printed setup secret"})
    }
