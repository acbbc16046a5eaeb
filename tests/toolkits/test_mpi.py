"""Command lines of mpirun, as a table; and MPICH for real where it is installed."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.toolkits.gangs import gang
from trainshed.toolkits import Gang, Host, MpiFlavor, PlanError, plan

JOB = {"customMpiSettings": {"commandLine": "python train.py --out $OUT", "processCount": 3}}
RANK = "/rank.sh bash -c 'python train.py --out $OUT'"


@pytest.mark.parametrize(
    ("flavor", "command_line"),
    [
        (
            MpiFlavor.OPEN_MPI_4,
            '"$(command -v mpirun)" --leave-session-attached --mca plm_rsh_agent /agent --mca plm_rsh_no_tree_spawn 1 '
            "--mca mpi_yield_when_idle 1 --bind-to none --map-by slot:OVERSUBSCRIBE --host 10.0.0.4:2,10.0.0.5:1 "
            f"-n 3 {RANK}",
        ),
        (
            MpiFlavor.OPEN_MPI_5,
            '"$(command -v mpirun)" --leave-session-attached --prtemca plm_ssh_agent /agent '
            "--prtemca plm_ssh_no_tree_spawn 1 --mca mpi_yield_when_idle 1 --bind-to none "
            f"--map-by slot:OVERSUBSCRIBE --host 10.0.0.4:2,10.0.0.5:1 -n 3 {RANK}",
        ),
        (
            MpiFlavor.MPICH,
            f"mpiexec -genvnone -launcher ssh -launcher-exec /agent -hosts 10.0.0.4:2,10.0.0.5:1 -n 3 {RANK}",
        ),
        (
            MpiFlavor.INTEL,
            'mpiexec -genvnone -launcher ssh -launcher-exec /agent -genv FI_PROVIDER "${FI_PROVIDER:-tcp}" '
            '-genv I_MPI_FABRICS "${I_MPI_FABRICS:-ofi}" '
            f"-host 10.0.0.4 -n 2 {RANK} : -host 10.0.0.5 -n 1 {RANK}",
        ),
    ],
)
def test_command_lines(flavor: MpiFlavor, command_line: str) -> None:
    made = plan(JOB, gang(mpi=flavor))
    [launcher] = made.processes
    assert (launcher.host, launcher.role, launcher.stdout, launcher.stderr) == (0, "master", "stdout.txt", "stderr.txt")
    assert launcher.command_line == command_line
    assert (made.slots, made.mpi_ranks) == ((2, 1), 3)


@pytest.mark.parametrize("flavor", [None, MpiFlavor.MPICH])
def test_an_engine_that_starts_ranks_is_told_how_many_where_and_what(flavor: MpiFlavor | None) -> None:
    made = plan(JOB, gang(mpi=flavor, rank_launcher="/start --with 'a file'"))
    [launcher] = made.processes
    assert (launcher.host, launcher.stdout) == (0, "stdout.txt")
    assert launcher.command_line == f"/start --with 'a file' 2,1 {RANK}"
    assert (made.slots, made.mpi_ranks, made.launched_by_engine) == ((2, 1), 3, True)


def test_open_mpi_as_root_is_told_so() -> None:
    [launcher] = plan(JOB, gang(mpi=MpiFlavor.OPEN_MPI_5, root=True)).processes
    assert " --allow-run-as-root " in launcher.command_line


@pytest.mark.parametrize(
    ("flavor", "flag"),
    [
        (MpiFlavor.OPEN_MPI_4, "--mca oob_tcp_if_include eth0"),
        (MpiFlavor.OPEN_MPI_4, "--mca btl_tcp_if_include eth0"),
        (MpiFlavor.OPEN_MPI_5, "--mca btl_tcp_if_include eth0"),
        (MpiFlavor.MPICH, "-iface eth0"),
        (MpiFlavor.INTEL, "-iface eth0"),
    ],
)
def test_the_interface_is_named_when_it_must_be(flavor: MpiFlavor, flag: str) -> None:
    [launcher] = plan(JOB, gang(mpi=flavor, interface="eth0")).processes
    assert flag in launcher.command_line


@pytest.mark.parametrize("flavor", MpiFlavor)
def test_hosts_without_ranks_are_left_out(flavor: MpiFlavor) -> None:
    job = {"customMpiSettings": {"commandLine": "x", "processCount": 1}}
    made = plan(job, gang(mpi=flavor))
    assert "10.0.0.5" not in made.processes[0].command_line
    assert made.slots == (1, 0)


@pytest.mark.parametrize("flavor", MpiFlavor)
def test_the_users_command_is_one_word(flavor: MpiFlavor) -> None:
    command = """echo "it's $A" && python -c 'print("x y")' | cat"""
    [launcher] = plan({"customMpiSettings": {"commandLine": command, "processCount": 1}}, gang(1, mpi=flavor)).processes
    assert shlex.split(launcher.command_line)[-4:] == ["/rank.sh", "bash", "-c", command]


def test_no_mpi_says_what_brings_one() -> None:
    with pytest.raises(PlanError, match="pip install mpich") as caught:
        plan(JOB, gang())
    assert str(caught.value).startswith("customMpiSettings: no MPI was found")


AGENT = """#!/bin/bash
while [[ $1 == -* ]]; do shift; done
echo "$1" >>"{calls}"; shift
exec env -u ONLY_MASTER FROM_AGENT=yes bash -c "$*"
"""


@pytest.mark.skipif(
    not Path(sys.executable).with_name("mpiexec").exists() and shutil.which("mpiexec") is None,
    reason="no MPICH is installed; `pip install mpich` brings one",
)
def test_mpich_starts_every_rank_in_its_nodes_environment(tmp_path: Path) -> None:
    bin_directory = Path(sys.executable).parent
    path = f"{bin_directory}:{os.environ['PATH']}"
    about = subprocess.run(["mpiexec", "--version"], env={"PATH": path}, capture_output=True, text=True, timeout=30)
    if "HYDRA" not in about.stdout:
        pytest.skip("the mpiexec on the PATH is not MPICH's")
    agent, wrapper, calls = tmp_path / "agent", tmp_path / "rank.sh", tmp_path / "calls"
    agent.write_text(AGENT.format(calls=calls))
    wrapper.write_text('#!/bin/bash\n"$@"; code=$?; echo "$code" >>"$RANKS/$PMI_RANK"; exit "$code"\n')
    for program in (agent, wrapper):
        program.chmod(0o755)
    hosts = (Host("a", "127.0.77.4"), Host("b", "127.0.77.5"))
    made = plan(
        {"customMpiSettings": {"commandLine": 'echo "rank $PMI_RANK/$PMI_SIZE ${FROM_AGENT:-no}"', "processCount": 3}},
        Gang(
            hosts=hosts,
            shared_job_temp=str(tmp_path),
            attempt_id="a",
            mpi=MpiFlavor.MPICH,
            launch_agent=str(agent),
            rank_wrapper=str(wrapper),
        ),
    )
    environment = {"PATH": path, "RANKS": str(tmp_path), "HOME": str(tmp_path), "ONLY_MASTER": "1"}
    done = subprocess.run(
        ["/bin/bash", "-c", made.processes[0].command_line], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    # MPICH starts what it takes for its own host itself; loopback addresses are other hosts to it.
    assert sorted(done.stdout.split("\n")) == ["", "rank 0/3 yes", "rank 1/3 yes", "rank 2/3 yes"]
    assert sorted(calls.read_text().split()) == ["127.0.77.4", "127.0.77.5"]
    assert [(tmp_path / str(rank)).read_text() for rank in range(3)] == ["0\n"] * 3
