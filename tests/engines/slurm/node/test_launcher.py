"""What ``srun`` is told when it starts ranks, and what they are told: tables. That it works is in test_mpi."""

from __future__ import annotations

import time

import pytest

from trainshed.engines.slurm.node.join import environment_of as environment_of_rank
from trainshed.engines.slurm.node.launcher import FLAGS, arguments_of, binds, describe, environment_of, is_new

NODES = ("n1", "n2", "n3")


@pytest.mark.parametrize(
    ("counts", "wanted"),
    [
        ([2, 2, 2], ["--nodes=3", "--ntasks=6", "--ntasks-per-node=2", "--distribution=block", "--nodelist=n1,n2,n3"]),
        ([1, 1, 0], ["--nodes=2", "--ntasks=2", "--ntasks-per-node=1", "--distribution=block", "--nodelist=n1,n2"]),
        ([2, 1, 1], ["--nodes=3", "--ntasks=4", "--distribution=arbitrary", "--nodelist=n1,n1,n2,n3"]),
    ],
)
def test_ranks_are_placed_as_mpirun_places_them(counts: list[int], wanted: list[str]) -> None:
    told = describe("pmix", NODES, ["--network=x"], {})
    made = arguments_of(told, counts, ["/rank.sh", "bash", "-c", "x y"], "the text")
    assert [
        argument for argument in made if argument.startswith(("--nodes", "--ntasks", "--dist", "--nodel"))
    ] == wanted
    assert "--mpi=pmix" in made and "--overlap" in made
    # What the administrator says comes last, before the program.
    program = made.index("--network=x") + 2
    assert made[program:] == [*FLAGS, "-c", "the text", "/rank.sh", "bash", "-c", "x y"]


def test_srun_gets_nothing_of_the_job_s_but_what_is_meant_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/of/the/node")
    slurm = {"SLURM_JOB_ID": "7", "SLURM_CONF": "/etc/slurm.conf", "SLURM_NTASKS": "3", "SLURM_STEP_ID": "0"}
    told = describe("pmix", NODES, (), slurm)
    job = {
        "PATH": "/of/the/job",
        "KEY": "s3cr3t",
        "SLURM_CPU_BIND": "cores",
        "SLURM_JOB_ID": "8",
        "PMIX_MCA_gds": "hash",
    }
    found = environment_of(told, {**job, "TRAINSHED_AGENT_TOKEN": "t", "TRAINSHED_JOB_ID": "j"})
    assert found.pop("PATH") == "/of/the/node"
    assert {name: value for name, value in found.items() if name not in ("HOME", "USER", "LANG", "LOGNAME", "TZ")} == {
        "SLURM_CPU_BIND": "cores",
        "PMIX_MCA_gds": "hash",
        "SLURM_JOB_ID": "7",
        "SLURM_CONF": "/etc/slurm.conf",
        "TRAINSHED_AGENT_TOKEN": "t",
    } | ({"LD_LIBRARY_PATH": found["LD_LIBRARY_PATH"]} if "LD_LIBRARY_PATH" in found else {})


def test_a_rank_gets_the_job_s_variables_and_slurm_s_of_its_step() -> None:
    own = {"PATH": "/of/the/node", "SLURM_PROCID": "5", "SLURM_LOCALID": "1", "PMIX_RANK": "5", "FABRIC_KEY": "k"}
    told = {
        "environment": {"PATH": "/of/the/job", "KEY": "s3cr3t", "SLURM_PROCID": "mine", "LOCAL_RANK": "mine"},
        "numbers": {"RANK": "{rank}", "LOCAL_RANK": "{local}", "WORLD_SIZE": "6"},
    }
    assert environment_of_rank(told, {**own, "TRAINSHED_AGENT_TOKEN": "t", "PWD": "/", "SRUN_DEBUG": "3"}) == {
        "PATH": "/of/the/job",
        "KEY": "s3cr3t",
        "RANK": "5",
        "LOCAL_RANK": "mine",
        "WORLD_SIZE": "6",
        "SLURM_PROCID": "5",
        "SLURM_LOCALID": "1",
        "PMIX_RANK": "5",
        # Plugins of Slurm's have variables of their own.
        "FABRIC_KEY": "k",
    }


@pytest.mark.parametrize(
    ("plugin", "bound"), [("task/none", False), ("task/cgroup", False), ("task/cgroup,task/affinity", True)]
)
def test_who_binds_is_told_not_to(plugin: str, bound: bool) -> None:
    assert binds(f"TaskEpilog              = (null)\nTaskPlugin              = {plugin}\n") is bound


@pytest.mark.parametrize(("seconds", "new"), [(5.0, True), (300.0, False)])
def test_a_controller_that_has_just_begun(seconds: float, new: bool) -> None:
    now = time.time()
    begun = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(now - seconds))
    assert is_new(f"AuthType                = auth/munge\nBOOT_TIME               = {begun}\n", now) is new
    assert not is_new("BOOT_TIME = (null)", now)
