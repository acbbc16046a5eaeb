"""Jobs that run as Unix users of the site, by the administrator's map. Debian's own users games and backup stand in."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.engines.lab import Lab, eventually, living, mark, sleeper
from tests.engines.slurm.laboratory import run_on, settings
from tests.engines.slurm.slurm_site import Site, why_no_rest
from tests.support.live_service import LiveService, custom
from trainshed.engine_setup import add_engine
from trainshed.engines.protocol import EngineError, EngineUnavailable, GangResult, GangSpec
from trainshed.engines.slurm.doctor import examine
from trainshed.engines.slurm.owners import acting_as, owner_of
from trainshed.resources.directories import join
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.resources.users import JobUser
from trainshed.volumes.filetree import list_directory, open_file

pytestmark = pytest.mark.slow

STOP = Reason(ReasonCode.JOB_TERMINATED, "The test wants it so.")
#: One that all users get to; the tests' own may lie in root's home.
PYTHON = "/usr/bin/python3"
MAP = """
rules:
- {user: ann, account: vision, unix_user: games}
- {user: bob, account: speech, unix_user: backup}
- {workspace: own, account: misc}
"""


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder that all users get to, which those of pytest are not."""
    missing = [name for name in ("games", "backup") if not _known(name)]
    if os.geteuid() != 0 or missing:
        pytest.skip("acting as others needs root" if os.geteuid() else f"no user {missing[0]} here")
    if subprocess.run([PYTHON, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"], check=False).returncode:
        pytest.skip(f"{PYTHON} is not there, or older than nodes need")
    folder = Path(tempfile.mkdtemp(prefix="slurm-users-", dir="/tmp"))
    folder.chmod(0o755)
    (folder / "nodes").mkdir()
    (folder / "nodes").chmod(0o1777)
    (folder / "users.yaml").write_text(MAP)
    (folder / "users.yaml").chmod(0o600)
    yield folder
    shutil.rmtree(folder)


def _known(name: str) -> bool:
    try:
        return pwd.getpwnam(name).pw_uid != 0
    except KeyError:
        return False


def mapped(site: Site, home: Path, body: Callable[[Lab], Awaitable[None]], **more: str) -> None:
    run_on(site, home, body, map=str(home / "users.yaml"), python=PYTHON, **more)


def text(path: str | Path) -> str:
    return Path(path).read_text() if Path(path).exists() else ""


def of(gang: GangSpec, submitter: str) -> GangSpec:
    """The attempt as this one's, its folder as the contract has it."""
    segment = f"sub/group/workspaces/{gang.workspace}/experiments/lab/jobs/{gang.job}/{gang.job_uid}"
    return replace(gang, submitter=submitter, segment=segment)


def test_each_runs_as_the_own_user_and_sees_nothing_of_others(slurm_site: Site, home: Path) -> None:
    async def body(lab: Lab) -> None:
        cluster = lab.cluster()
        nodes = await lab.add_nodes(2, cluster)
        root = str(lab.engine.mount_root(cluster.uid))
        secret, name = f"s3cr3t-{mark()}", mark()
        look = f"id -un > {root}/ann; echo $HOME $USER >> {root}/ann; echo ${{#KEY}} >> {root}/ann"
        ann = lab.gang(f"echo hello; {look}; {sleeper(name)}", nodes, cluster, secrets={"KEY": secret})
        ann.properties["secrets"] = [{"name": "KEY"}]
        ann = of(ann, "ann")
        await lab.engine.start_gang(ann)
        await eventually(lambda: len(text(f"{root}/ann").split()) == 4, "the job of ann")
        assert text(f"{root}/ann").split() == ["games", "/usr/games", "games", str(len(secret))]
        told = slurm_site.run("squeue", "-h", "-O", "UserName:20,Account:20").split()
        assert told == ["games", "vision"]

        logs = join(root, "logs", ann.segment)
        jobs, attempts = home / "shared" / "jobs", home / "shared" / "attempts"
        bob = of(lab.gang("true", nodes[:1], cluster), "bob")
        hers, his = ann.attempt_id, bob.attempt_id
        tried = [
            *(f"{jobs}/{hers}/{name}" for name in ("run-0.json", "run-0.private", "output.txt", "claimed")),
            *(f"{attempts}/{hers}/{name}" for name in ("told.jsonl", "hosts.json", "0/outcome.json", "0/alive")),
            *(f"{jobs}/{hers}.json", f"{attempts}/{hers}.json", f"{logs}/stdouterr/stdout.txt"),
            *(f"{jobs}/{his}.json", f"{attempts}/{his}.json", f"{home}/shared/home.json"),
        ]
        look = f"id -un; for file in {' '.join(tried)}; do cat $file && echo READ; done; cat {jobs}/{his}/run-0.json"
        bob.properties["customToolkitSettings"]["commandLine"] = f"({look}) > {root}/bob 2>&1; exit 0"
        await lab.engine.start_gang(bob)
        assert (await lab.end_of(his)).result is GangResult.SUCCEEDED
        found = text(f"{root}/bob")
        # What he could read: his own order, and nothing of hers or of the service's.
        assert found.startswith("backup\n") and f'"attempt_id":"{his}"' in found
        assert "READ\n" not in found and found.count("Permission denied") == len(tried) - 1 and secret not in found
        owned = {str(path.relative_to(root)): path.stat() for path in Path(logs).parent.iterdir()}
        assert [(s.st_uid, s.st_mode & 0o777) for s in owned.values()] == [(pwd.getpwnam("games").pw_uid, 0o700)]

        # The service reads her logs, and after a restart stops her job.
        stdout = open_file(root, f"{logs}/stdouterr/stdout.txt", logs)
        assert stdout is not None
        assert os.read(stdout, 100) == b"hello\n"
        os.close(stdout)
        await lab.restart_service()
        await lab.engine.stop_gang(ann.attempt_id, STOP, 0.2)
        assert (await lab.end_of(ann.attempt_id)).reason == STOP
        assert living(name) == []
        await lab.engine.forget_gang((ann.attempt_id, bob.attempt_id))
        await eventually(lambda: not slurm_site.states(), "an empty queue")
        await eventually(lambda: not [*jobs.iterdir(), *attempts.iterdir()], "no files of either")

    mapped(slurm_site, home, body)


def test_a_requeued_job_stays_its_user_s(slurm_site: Site, home: Path) -> None:
    async def body(lab: Lab) -> None:
        cluster = lab.cluster()
        nodes = await lab.add_nodes(2, cluster)
        root = str(lab.engine.mount_root(cluster.uid))
        command = f"id -un >> {root}/runs; [ $TRAINSHED_ATTEMPT = 2 ] || {sleeper(mark())}"
        gang = of(lab.gang(command, nodes, cluster), "ann")
        await lab.engine.start_gang(gang)
        await eventually(lambda: Path(root, "runs").exists(), "the job")
        slurm_site.run("scontrol", "requeue", *slurm_site.states())
        assert (await lab.end_of(gang.attempt_id)).again
        # The map of that moment counts no more: Slurm has the job as the user's already.
        (home / "users.yaml").write_text("rules: [{user: ann, unix_user: backup}]")
        second = replace(gang, attempt_id=f"{gang.attempt_id}-2", attempt_number=2)
        await lab.engine.start_gang(second)
        assert (await lab.end_of(second.attempt_id)).result is GangResult.SUCCEEDED
        assert text(f"{root}/runs").split() == ["games", "games"]

    mapped(slurm_site, home, body)


@pytest.mark.skipif(bool(why_no_rest()), reason=why_no_rest())
def test_slurmrestd_takes_jobs_of_others_from_root_s_token(slurm_site: Site, home: Path) -> None:
    token = home / "token"
    token.write_text(slurm_site.token())
    token.chmod(0o600)

    async def body(lab: Lab) -> None:
        cluster = lab.cluster()
        nodes = await lab.add_nodes(1, cluster)
        root = str(lab.engine.mount_root(cluster.uid))
        gang = of(lab.gang(f"id -un > {root}/who; echo $USER >> {root}/who; {sleeper(mark())}", nodes, cluster), "ann")
        await lab.engine.start_gang(gang)
        await eventually(lambda: text(f"{root}/who").split() == ["games", "games"], "the job of ann")
        queued = replace(of(lab.gang("true", nodes, cluster), "bob"), node_count=4)
        await lab.engine.start_gang(queued)
        await lab.engine.stop_gang(queued.attempt_id, STOP, 0.2)
        assert (await lab.end_of(queued.attempt_id)).reason == STOP
        await lab.engine.stop_gang(gang.attempt_id, STOP, 0.2)
        assert (await lab.end_of(gang.attempt_id)).reason == STOP

    mapped(slurm_site, home, body, rest_url=slurm_site.start_rest(), token_file=str(token))


def test_who_is_not_in_the_map_is_refused_and_a_broken_map_lets_jobs_wait(slurm_site: Site, home: Path) -> None:
    async def body(lab: Lab) -> None:
        cluster = lab.cluster()
        nodes = await lab.add_nodes(1, cluster)
        eve = of(lab.gang("true", nodes, cluster), "eve")
        await lab.engine.start_gang(eve)
        status = await lab.end_of(eve.attempt_id)
        assert status.result is GangResult.FAILED and status.reason is not None
        assert "does not take jobs of eve in workspace" in status.reason.text
        assert status.reason.details["setting"] == "map"
        assert slurm_site.states() == {}
        await lab.restart_service()
        await lab.engine.start_gang(eve)
        assert (await lab.end_of(eve.attempt_id)).reason == status.reason
        await lab.engine.forget_gang((eve.attempt_id,))
        assert (await lab.engine.view()).gangs == ()

        kept_apart = replace(of(lab.gang("true", nodes, cluster), "eve"), workspace="own", user=JobUser(1900001000, 1))
        with pytest.raises(EngineError, match="'unix_user' in the engine's map"):
            await lab.engine.start_gang(kept_apart)
        with_setup = lab.cluster("set-up", node_setup={"setupTask": {"commandLine": "true"}})
        await lab.engine.ensure_cluster(with_setup)
        gang = of(lab.gang("true", nodes, with_setup), "ann")
        await lab.engine.start_gang(gang)
        assert "set-up has nodeSetup" in str((await lab.end_of(gang.attempt_id)).reason)

        (home / "users.yaml").write_text("rules: [{usr: ann}]")
        ann = of(lab.gang("true", nodes, cluster), "ann")
        with pytest.raises(EngineUnavailable, match=r"rules\[0\] has 'usr'"):
            await lab.engine.start_gang(ann)
        (home / "users.yaml").write_text(MAP)
        await lab.engine.start_gang(ann)
        assert (await lab.end_of(ann.attempt_id)).result is GangResult.SUCCEEDED

    mapped(slurm_site, home, body)


def test_what_a_job_puts_into_its_folders_leads_the_service_nowhere(slurm_site: Site, home: Path) -> None:
    """It cannot make the service read, or write, what is not the user's, nor keep it waiting."""
    secret, precious = home / "root-only", home / "precious"
    for file in (secret, precious):
        file.write_text(f"private-{file.name}")
        file.chmod(0o640)

    async def body(lab: Lab) -> None:
        cluster = lab.cluster()
        nodes = await lab.add_nodes(1, cluster)
        root, shared = str(lab.engine.mount_root(cluster.uid)), home / "shared"
        bad = of(lab.gang("true", nodes, cluster), "ann")
        ticket, attempt = shared / "jobs" / bad.attempt_id, shared / "attempts" / bad.attempt_id
        bad.properties["customToolkitSettings"]["commandLine"] = (
            f"rm -f {ticket}/output.txt {attempt}/told.jsonl {attempt}/hosts.json; mkfifo {attempt}/hosts.json; "
            f"ln -s {secret} {ticket}/output.txt; ln -s {precious} {attempt}/told.jsonl; "
            f"ln -s {secret} $AZ_BATCHAI_STDOUTERR_DIR/link; touch {root}/ready; {sleeper(mark())}"
        )
        await lab.engine.start_gang(bad)
        await eventually(lambda: Path(root, "ready").exists(), "the job")
        await lab.restart_service()
        good = of(lab.gang("true", nodes, cluster), "bob")
        await lab.engine.start_gang(good)
        assert (await lab.end_of(good.attempt_id)).result is GangResult.SUCCEEDED
        await lab.engine.stop_gang(bad.attempt_id, STOP, 0.2)
        status = await lab.end_of(bad.attempt_id)
        assert "private" not in str(status)
        own = join(root, "logs", bad.segment)
        entries = {entry.name for entry in list_directory(root, f"{own}/stdouterr", None, 100, own)}
        assert "stdout.txt" in entries and "link" not in entries
        assert precious.read_text() == "private-precious"

    mapped(slurm_site, home, body)


def test_acting_as_somebody_leaves_the_service_itself_as_it_was(home: Path) -> None:
    games = owner_of("games")
    closed = home / "closed"
    closed.write_text("x")
    closed.chmod(0o640)
    groups = os.getgroups()
    with acting_as(games), pytest.raises(PermissionError):
        closed.read_text()
    with pytest.raises(RuntimeError), acting_as(games):
        raise RuntimeError
    assert (closed.read_text(), os.geteuid(), os.getgroups()) == ("x", 0, groups)


#: Stands in for sacctmgr on a site with accounting (a double): members of accounts.
SACCTMGR = """#!/bin/sh
echo "root|root"; echo "vision|"; echo "vision|games"; echo "misc|root"
"""


def test_doctor_looks_at_each_user_and_account(slurm_site: Site, home: Path) -> None:
    given = settings(home, map=str(home / "users.yaml"))

    def said(path: str = "") -> tuple[bool, str]:
        environment = {**slurm_site.environment, "PATH": path + slurm_site.environment["PATH"]}
        checks = asyncio.run(examine(given, environment))
        found = next(check for check in checks if check.name == "users and accounts")
        return found.ok, found.detail

    ok, detail = said()
    assert ok and "user games account vision, user backup account speech, account misc" in detail
    assert "accounts are not looked up: You are not running" in detail
    (home / "tools").mkdir()
    (home / "tools" / "sacctmgr").write_text(SACCTMGR)
    (home / "tools" / "sacctmgr").chmod(0o755)
    ok, detail = said(f"{home}/tools:")
    assert not ok and "user backup account speech: accounting has no account speech" in detail and "games" not in detail
    (home / "users.yaml").write_text("rules: [{unix_user: no-such-user}]")
    ok, detail = said()
    assert not ok and "this machine has no Unix user 'no-such-user'" in detail
    (home / "users.yaml").write_text("rules: [{unix_user: games}]")
    home.chmod(0o700)
    ok, detail = said()
    assert not ok and f"cannot pass through {home} to the shared directory; mend it: chmod o+x" in detail
    slurm_site.clear()


@pytest.mark.e2e
def test_a_service_shows_logs_of_mapped_jobs_and_explains_a_refusal(slurm_site: Site, home: Path) -> None:
    site = settings(home, python=PYTHON)
    (home / "users.yaml").write_text("rules: [{workspace: default, unix_user: games}]")
    added = {"directory": site.directory, "node_directory": site.node_directory, "python": PYTHON}
    add_engine(home / "home", "slurm", "hpc", {**added, "map": str(home / "users.yaml")})
    service = LiveService(home / "home", more={"SLURM_CONF": str(slurm_site.conf)})
    try:
        service.start()
        client = service.client
        client.workspaces.create("default", location="local")
        client.experiments.create("default")
        there = client.clusters.create(
            "there",
            {
                "vmSize": "STANDARD_D1",
                "scaleSettings": {"manual": {"targetNodeCount": 2}},
                "userAccountSettings": {"adminUserName": "tester", "adminUserPassword": "only-for-tests-1"},
                "engine": {"name": "hpc"},
            },
        )
        client.jobs.create("mapped", custom("id -un; echo to-stderr >&2", str(there.id)))
        service.wait_for(lambda: client.jobs.get("mapped").final, "its end", 60.0)
        assert client.jobs.get("mapped").execution_state.value == "succeeded"
        assert b"".join(client.jobs.stream_log("mapped")) == b"games\n"
        (home / "users.yaml").write_text("rules: [{workspace: another, unix_user: games}]")
        client.jobs.create("refused", custom("true", str(there.id)))
        service.wait_for(lambda: client.jobs.get("refused").final, "its end", 60.0)
        job = client.jobs.get("refused")
        assert [error.code for error in job.errors] == ["JobLaunchFailed"]
        assert "does not take jobs of somebody without a name in workspace default" in job.errors[0].message
    finally:
        service.stop()
        slurm_site.clear()
