"""Attempts whose processes run as a user of their own, in a view of the machine of their own."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.runner.harness import SEGMENT, Runner, custom, make_spec, run, stdouterr, wait_for, wait_gone
from tests.runner.test_serving import Server
from trainshed.resources.users import JobUser
from trainshed.runner import main
from trainshed.runner.spec import RunnerSpec, View
from trainshed.runner.switchboard import agent_token

USER = JobUser(1900000100, 1900000101)
OTHER = JobUser(1900000102, 1900000103)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can start processes as another user"),
]


@pytest.fixture(autouse=True)
def _namespaces(namespaces: None) -> None:
    """All of these need namespaces."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A service's home with a secret in it, and all that an engine makes before it starts a runner."""
    home = tmp_path / "service"
    for folder in ("mounts", "n0/jobs", "n1/jobs"):
        (home / folder).mkdir(parents=True)
    home.chmod(0o700)
    (home / "vault.key").write_text("the key")
    (home / "readable").write_text("for all")
    return home


def view_of(root: Path, user: JobUser = USER, index: int = 0) -> View:
    """As the local engine makes it."""
    return View(
        user=user,
        hidden=str(root),
        shared=str(root / "mounts"),
        shown=tuple({str(root / f"n{index}/jobs"): 0, str(root / "n0/jobs"): 0}),
        private=str(root / f"n{index}" / "private"),
        shm_mib=64,
    )


def spec_of(root: Path, properties: dict[str, Any], user: JobUser = USER, **more: Any) -> RunnerSpec:
    return make_spec(root, properties, view=view_of(root, user, more.get("index", 0)), **more)


def said(root: Path, command: str, user: JobUser = USER, **more: Any) -> str:
    """What a job that succeeds writes to its standard output."""
    outcome = run(spec_of(root, custom(command), user, **more))
    assert outcome.result == "succeeded", (outcome, log(root))
    return (stdouterr(root) / "stdout.txt").read_text()


def log(root: Path) -> str:
    folder = stdouterr(root)
    # A directory of the ranks' logs is there when the job took a while.
    files = [path for path in sorted(folder.glob("*")) if path.is_file()] if folder.exists() else []
    return "\n".join(path.read_text() for path in files) or "(no logs)"


def test_ids_groups_and_rights(root: Path) -> None:
    told = said(root, "id -u; id -g; id -G; whoami; grep -E '^(Cap(Prm|Eff|Amb|Inh)|NoNewPrivs)' /proc/self/status")
    uid = str(USER.uid)
    assert told.split("\n")[:4] == [uid, uid, uid, "job"]
    rights = dict(line.split(":\t") for line in told.splitlines()[4:])
    assert rights.pop("NoNewPrivs") == "1"
    assert set(rights.values()) == {"0" * 16}


def test_nothing_is_inherited_but_the_three_descriptors(root: Path) -> None:
    command = "python3 -c 'import os; print(sorted(map(int, os.listdir(\"/proc/self/fd\")))[:-1])'; umask; ulimit -c"
    assert said(root, command).splitlines() == ["[0, 1, 2]", "0022", "0"]


def test_the_kernel_takes_jobs_first(root: Path) -> None:
    assert said(root, "sleep 0.2; cat /proc/self/oom_score_adj").strip() == "500"


def test_environment_is_clean(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINSHED_VAULT_KEY", "secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    told = dict(line.split("=", 1) for line in said(root, "env").splitlines() if "=" in line)
    assert "secret" not in told.values()
    assert (told["USER"], told["LOGNAME"]) == ("job", "job")
    assert told["HOME"] == told["AZ_BATCHAI_JOB_TEMP"]
    assert told["PATH"] == os.environ["PATH"]


def test_home_of_the_service_is_not_there(root: Path) -> None:
    told = said(root, f"ls -A {root}; cat {root}/vault.key {root}/readable; echo; stat -c %U {root}; true")
    assert told.split() == ["mounts", "n0", "root"]


def test_only_its_own_directories_are_writable(root: Path) -> None:
    command = f"""
    for folder in / /etc /usr /var /home /root /opt /run /run/lock /sys /sys/fs/cgroup {root}; do
        if touch $folder/probe-of-a-job 2>/dev/null; then echo $folder; fi
    done
    for folder in /tmp /var/tmp /dev/shm $HOME $AZ_BATCHAI_JOB_TEMP_DIR $AZ_BATCHAI_MOUNT_ROOT; do
        touch $folder/probe-of-a-job || echo not $folder
    done
    """
    assert said(root, command) == ""
    assert not list(Path("/tmp").glob("probe-of-a-job")) + list(Path("/dev/shm").glob("probe-of-a-job"))


def test_nothing_of_the_machines_temporary_files_is_seen(root: Path) -> None:
    marker = root.parent / "seen-by-all"
    marker.parent.chmod(0o755)
    marker.write_text("x")
    told = said(root, "ls -A /tmp /var/tmp /dev/shm")
    assert told.split() == ["/dev/shm:", "/tmp:", root.parts[2], "/var/tmp:"]


def test_logs_and_directories_belong_to_the_user(root: Path) -> None:
    said(root, "touch $AZ_BATCHAI_OUTPUT_X/model 2>/dev/null; true")
    workspace = root / "mounts/logs/sub/group/workspaces/ws"
    facts = workspace.stat()
    assert (facts.st_uid, stat.S_IMODE(facts.st_mode)) == (USER.uid, 0o700)
    assert stat.S_IMODE(workspace.parent.stat().st_mode) == 0o1777 and workspace.parent.stat().st_uid == 0
    assert {path.stat().st_uid for path in stdouterr(root).iterdir()} == {USER.uid}
    assert {path.stat().st_uid for path in (root / "n0/jobs").rglob("*")} == {USER.uid}


def test_outputs_of_the_time_before_isolation_become_the_workspaces(root: Path) -> None:
    elsewhere = root / "mounts/shared"
    elsewhere.mkdir(mode=0o755)
    assert run(make_spec(root, custom("echo before; ln /etc/hostname $AZ_BATCHAI_STDOUTERR_DIR/linked || true"))).result
    assert (stdouterr(root) / "stdout.txt").stat().st_uid == 0
    assert said(root, "echo after; touch $AZ_BATCHAI_STDOUTERR_DIR/new") == "before\nafter\n"
    assert (stdouterr(root) / "stdout.txt").stat().st_uid == USER.uid
    assert Path("/etc/hostname").stat().st_uid == 0
    assert elsewhere.stat().st_uid == 0


def test_workspaces_do_not_see_one_another(root: Path) -> None:
    """Both on one node and one cluster: neither outputs, nor temporary files, nor what is in memory."""
    said(root, "for f in /tmp /var/tmp /dev/shm $HOME $AZ_BATCHAI_MOUNT_ROOT; do echo mine > $f/mine; done")
    first = Path(str(stdouterr(root)))
    other = SEGMENT.replace("workspaces/ws", "workspaces/other")
    spec = spec_of(
        root,
        custom(f"cat /tmp/mine /var/tmp/mine /dev/shm/mine {first}/stdout.txt; ls {first}; rm -r {first.parent}; true"),
        OTHER,
    )
    spec = replace(spec, identity=replace(spec.identity, segment=other, workspace="other"))
    assert run(spec).result == "succeeded"
    logs = root / "mounts/logs" / other / "stdouterr"
    assert (logs / "stdout.txt").read_text() == ""
    assert (logs / "stderr.txt").read_text().count("No such file") == 3
    assert first.is_dir()


@pytest.mark.parametrize("name", ["stdout.txt", "execution.log"])
def test_a_link_in_place_of_a_log_is_not_followed(root: Path, tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    victim.chmod(0o666)
    tmp_path.chmod(0o755)
    said(root, f"rm -f $AZ_BATCHAI_STDOUTERR_DIR/{name}; ln -s {victim} $AZ_BATCHAI_STDOUTERR_DIR/{name}")
    outcome = run(spec_of(root, custom("echo overwritten")))
    assert outcome.result == "failed" and (outcome.reason or {})["code"] == "JobDirectoryError"
    assert victim.read_text() == "untouched"


def test_a_link_in_place_of_a_directory_leads_root_nowhere(root: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    said(root, f"ln -s {victim} $AZ_BATCHAI_MOUNT_ROOT/trap; ln -s {victim} $AZ_BATCHAI_MOUNT_ROOT/logs/deep")
    for prefix in ("trap", "logs/deep", "../../../etc"):
        properties = custom("true", stdOutErrPathPrefix=f"$AZ_BATCHAI_MOUNT_ROOT/{prefix}")
        outcome = run(spec_of(root, properties, OTHER))
        assert (outcome.reason or {}).get("code") == "JobDirectoryError", prefix
    assert list(victim.iterdir()) == []


def test_a_fifo_in_place_of_a_log_blocks_nobody(root: Path) -> None:
    said(root, "rm $AZ_BATCHAI_STDOUTERR_DIR/stderr.txt; mkfifo $AZ_BATCHAI_STDOUTERR_DIR/stderr.txt")
    assert (run(spec_of(root, custom("true"))).reason or {})["code"] == "JobDirectoryError"


def test_user_namespaces_uncover_nothing(root: Path) -> None:
    command = f"""
    unshare -Urm bash -c '
        umount {root} || umount -l {root} || umount -l {root.parent} || umount -l /tmp
        mount --bind / /mnt; cat /mnt{root}/vault.key /mnt{root}/readable
        mount -o remount,rw /; mount -o remount,rw,bind /; touch /etc/probe-of-a-job
        cat {root}/vault.key {root}/readable
        umount /sys/fs/cgroup; mount -t cgroup2 none /mnt; touch /mnt/cgroup.procs; echo $$ > /mnt/cgroup.procs
    ' || true
    """
    said(root, command)
    told = log(root)
    assert "the key" not in told and "for all" not in told
    assert not Path("/etc/probe-of-a-job").exists()


def test_preparation_and_code_are_the_users(root: Path, tmp_path: Path) -> None:
    text = b"print('hello from code')\n"
    sha = hashlib.sha256(text).hexdigest()
    blob = root / "code" / sha[:2] / sha
    blob.parent.mkdir(parents=True)
    blob.write_bytes(text)
    blob.chmod(0o600)
    prepared = {"jobPreparation": {"commandLine": "id -u; echo export PREPARED=yes >> ~/.bashrc"}}
    told = said(root, "true")  # the parent folders are there
    spec = spec_of(
        root,
        custom("echo [$PREPARED]; python3 pack/main.py; stat -c %u pack/main.py", **prepared),
        code_store=str(root / "code"),
        code_manifest={"pack/main.py": {"sha256": sha, "mode": 0o644}},
    )
    assert run(spec).result == "succeeded", log(root)
    assert told == ""
    assert (stdouterr(root) / "stdout.txt").read_text().split("\n") == [
        "[yes]",
        "hello from code",
        str(USER.uid),
        "",
    ]
    assert (stdouterr(root) / "stdout-job_prep.txt").read_text().strip() == str(USER.uid)


def test_mount_commands_run_as_nobodys_root(root: Path) -> None:
    volumes = {
        "unmanagedFileSystems": [
            {
                "relativeMountPath": "data",
                "mountCommand": "(id -u; cat /proc/self/uid_map) > /tmp/who; mount -t tmpfs -o mode=1777 none",
            }
        ]
    }
    command = "cat /tmp/who; echo there > $AZ_BATCHAI_JOB_MOUNT_ROOT/data/file; findmnt -n -o FSTYPE -T " + (
        "$AZ_BATCHAI_JOB_MOUNT_ROOT/data/file; id -u"
    )
    spec = spec_of(root, custom(command, mountVolumes=volumes))
    outcome = run(spec)
    assert outcome.result == "succeeded", (outcome, log(root))
    told = (stdouterr(root) / "stdout.txt").read_text().split()
    assert told == ["0", "0", str(USER.root), "1", str(USER.uid), str(USER.uid), "1", "tmpfs", str(USER.uid)]
    assert list((root / "n0/jobs").rglob("data/*")) == []


def test_outputs_on_a_mounted_volume(root: Path) -> None:
    volumes = {"unmanagedFileSystems": [{"relativeMountPath": "v", "mountCommand": f"mount --bind {root}/mounts/data"}]}
    (root / "mounts/data").mkdir()
    os.chown(root / "mounts/data", USER.uid, USER.uid)
    properties = custom(
        "echo model > $AZ_BATCHAI_OUTPUT_M/model",
        mountVolumes=volumes,
        stdOutErrPathPrefix="$AZ_BATCHAI_JOB_MOUNT_ROOT/v",
        outputDirectories=[{"id": "M", "pathPrefix": "$AZ_BATCHAI_JOB_MOUNT_ROOT/v"}],
    )
    outcome = run(spec_of(root, properties))
    assert outcome.result == "succeeded", outcome
    assert (root / "mounts/data" / SEGMENT / "outputs/model").read_text() == "model\n"
    assert (root / "mounts/data" / SEGMENT / "stdouterr/execution.log").exists()


def test_a_failing_mount_command_names_the_volume(root: Path) -> None:
    volumes = {"unmanagedFileSystems": [{"relativeMountPath": "v", "mountCommand": "echo no such share >&2; false"}]}
    outcome = run(spec_of(root, custom("true", mountVolumes=volumes)))
    assert (outcome.reason or {})["code"] == "VolumeMountError"
    assert "no such share" in (outcome.reason or {})["text"]


def test_a_range_that_is_exhausted_is_said(root: Path) -> None:
    outcome = run(spec_of(root, custom("true"), replace(USER, problem="The range is exhausted.")))
    assert outcome.result == "failed"
    assert "The range is exhausted." in (outcome.reason or {})["text"]


def test_directories_of_any_depth_are_wiped(root: Path) -> None:
    deep = "import os\nfor _ in range(1500): os.mkdir('d'); os.chdir('d')\nos.symlink('/etc', 'l'); open('f', 'w')"
    said(root, f'for folder in /tmp $HOME; do (cd $folder && python3 -c "{deep}"); done')
    assert said(root, "ls -A /tmp; find $HOME -mindepth 1 -name d").split() == [root.parts[2]]


@pytest.fixture
def server(root: Path) -> Iterator[Server]:
    main.warm_up("node-0")
    serving = StrangerServer(root)
    yield serving
    serving.close()


class StrangerServer(Server):
    user = USER

    def spec(self, properties: dict[str, Any], attempt_id: str) -> RunnerSpec:
        return spec_of(self._root, properties, self.user, attempt_id=attempt_id)


def test_a_serving_runner_keeps_the_view_for_one_user_only(server: StrangerServer, root: Path) -> None:
    namespace = "readlink /proc/self/ns/mnt"
    for command in ("echo left > /tmp/left; echo left > /dev/shm/left", "ls -A /tmp /dev/shm"):
        ended = server.run(custom(f"{namespace}; {command}"))
        assert ended["outcome"]["exit_code"] == 0 and ended["again"], ended
    server.user = OTHER
    other = "$AZ_BATCHAI_MOUNT_ROOT/other"
    outputs = [{"id": "O", "pathPrefix": other}]
    command = f"{namespace}; ls -A /tmp /dev/shm; id -u"
    properties = custom(command, stdOutErrPathPrefix=other, outputDirectories=outputs)
    ended = server.run(properties)
    assert ended["outcome"]["exit_code"] == 0 and ended["again"], ended
    first, again, *seen = (stdouterr(root) / "stdout.txt").read_text().split()
    assert first == again
    assert "left" not in seen and "/dev/shm:" in seen
    assert "those of the attempt before" in (stdouterr(root) / "execution.log").read_text()
    folder = root / "mounts/other" / SEGMENT / "stdouterr"
    second = (folder / "stdout.txt").read_text().split()
    # Not the namespace's number: the kernel gives that of the one that is gone to the next.
    assert "those of the attempt before" not in (folder / "execution.log").read_text()
    assert second[-1] == str(OTHER.uid)
    assert "left" not in second


def test_its_death_takes_a_strangers_attempt_with_it(root: Path) -> None:
    with Runner(spec_of(root, custom("export MARK=stranger-goes-too; echo; exec sleep 1000"))) as runner:
        # At once: the runner may still have the job's user on.
        wait_for(stdouterr(root) / "stdout.txt")
        os.kill(runner.pid, 9)
        runner.wait_exit()
    wait_gone("MARK=stranger-goes-too")


RING = r"""
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(int argc, char **argv) {
    int rank, size, beside, sum, bytes = 4 << 20;
    MPI_Comm node;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &node);
    MPI_Comm_size(node, &beside);
    char *out = malloc(bytes * size), *in = malloc(bytes * size);
    MPI_Alltoall(out, bytes, MPI_CHAR, in, bytes, MPI_CHAR, MPI_COMM_WORLD);
    MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    char name[64];
    gethostname(name, sizeof name);
    printf("rank %d of %d on %s, %d beside, user %d, sum %d\n", rank, size, name, beside, getuid(), sum);
    MPI_Finalize();
    return 0;
}
"""


def mpich_folder() -> Path:
    """Where the job's user finds MPICH. What lies below /tmp is not in its view."""
    libraries = [Path(entry).parents[2] / "bin" for entry in sys.path if entry.endswith("site-packages")]
    for folder in (Path(sys.executable).parent, *libraries):
        if (folder / "mpiexec.hydra").exists() and not folder.is_relative_to("/tmp"):
            return folder
    pytest.skip("no MPICH that another user can run: pip install mpich, outside of /tmp")


@pytest.mark.slow
def test_mpi_over_two_nodes_with_shared_memory_on_each(root: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks are started by the runners of both nodes; those of one node talk through /dev/shm."""
    folder = mpich_folder()
    if not shutil.which("gcc"):
        pytest.skip("no C compiler")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    (root / "mounts/ring.c").write_text(RING)
    subprocess.run([folder / "mpicc", "-o", root / "mounts/ring", root / "mounts/ring.c"], check=True)
    properties = {"customMpiSettings": {"commandLine": "$AZ_BATCHAI_MOUNT_ROOT/ring", "processCount": 4}}
    with ExitStack() as stack:
        specs = [spec_of(root, properties, nodes=2, index=index, port=port) for index in range(2)]
        ended = [runner.outcome() for runner in [stack.enter_context(Runner(spec)) for spec in specs]]
    assert [outcome.result for outcome in ended] == ["succeeded", "succeeded"], log(root)
    expected = [f"rank {n} of 4 on node-{n // 2}, 2 beside, user {USER.uid}, sum 6" for n in range(4)]
    assert sorted((stdouterr(root) / "stdout.txt").read_text().splitlines()) == expected


def test_a_token_of_one_attempt_opens_no_other(root: Path, port: int) -> None:
    """The launch agents' token of one gang, known to its job, tried on the runner of another gang."""
    with ExitStack() as stack:
        specs = [spec_of(root, custom("sleep 1000"), nodes=2, index=i, port=port, token="victim") for i in range(2)]
        runners = [stack.enter_context(Runner(spec)) for spec in specs]
        wait_for(stdouterr(root) / "execution-node-1.log")
        for token in (agent_token("attacker"), "attacker", agent_token(""), ""):
            for purpose in ({"launch": b"touch /tmp/gained".hex(), "call": "1"}, {"member": 1}, {"attach": "stdout"}):
                with socket.create_connection(("127.0.77.4", port), timeout=10) as line:
                    line.sendall(json.dumps({**purpose, "token": token}).encode() + b"\n")
                    line.settimeout(10)
                    assert line.recv(64) == b""
        runners[0].stop()
        ended = [runner.outcome() for runner in runners]
        assert [outcome.result for outcome in ended] == ["stopped", "stopped"], ended
