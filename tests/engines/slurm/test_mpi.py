"""Ranks of MPI that ``srun`` starts (the cluster's ``mpi``): Open MPI by PMIx and MPICH by PMI-2, two ranks a node."""

from __future__ import annotations

import asyncio
import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.engines.lab import Lab, eventually, living, mark
from tests.engines.slurm.laboratory import run_afar, run_on, settings
from tests.engines.slurm.slurm_site import Site, end_signal
from tests.engines.slurm.test_users import home, mapped, of
from tests.support.mpi import Mpi, mpich, open_mpi, open_mpi_4
from trainshed.engines.protocol import ClusterSpec, GangResult, GangSpec, GangStatus
from trainshed.engines.slurm.doctor import examine
from trainshed.resources.reasons import Reason, ReasonCode

__all__ = ["home"]

pytestmark = pytest.mark.slow

#: What an engine's ``setup`` says for attempts without namespaces.
ALONE = "export TRAINSHED_ISOLATION=none"
STOP = Reason(ReasonCode.JOB_TERMINATED, "The test wants it so.")
#: Each rank adds its number up with the others' and tells what it found around it, in one write.
SCRIPT = """
import json, os
from mpi4py import MPI
comm = MPI.COMM_WORLD
told = {"rank": comm.rank, "size": comm.size, "sum": comm.allreduce(comm.rank), "library": MPI.Get_library_version(),
        "host": os.uname().nodename, "folder": os.getcwd(), "user": os.getuid(), "environment": dict(os.environ)}
for line in comm.gather(json.dumps(told)) or ():
    print(line, flush=True)
"""
#: What Slurm, PMIx and MPI's own launchers say to ranks; Open MPI's puts its folders before the others too.
LAUNCHERS = (
    "SLURM",
    "PMI",
    "PRTE",
    "OMPI_",
    "OPAL_",
    "MPI_",
    "HYDI_",
    "IPATH_",
    "HFI_",
    "GFORTRAN_",
    "PATH",
    "LD_",
    "DYLD_",
)
#: Differs from one attempt to the next, or from one start of a shell to the next.
OF_THE_RUN = (
    "TRAINSHED_ATTEMPT_ID",
    "TRAINSHED_JOB_ID",
    "MASTER_PORT",
    "TRAINSHED_AGENT_",
    "TRAINSHED_SLURM_",
    "SHLVL",
)


@pytest.fixture(params=[("pmix", open_mpi_4), ("pmix", open_mpi), ("pmi2", mpich)], ids=lambda pair: pair[1].__name__)
def pair(request: pytest.FixtureRequest, slurm_site: Site) -> tuple[str, Mpi]:
    """A plugin of Slurm's and an MPI that speaks with it."""
    kind, find = request.param
    skip_without(slurm_site, kind)
    return kind, find()


def skip_without(site: Site, kind: str) -> None:
    if "Couldn't load" in (said := site.run("sh", "-c", f"srun -n1 --mpi={kind} true 2>&1", check=False)):
        pytest.skip(f"Slurm cannot load mpi/{kind}: apt-get install --no-install-recommends libpmix-dev ({said[:99]})")


def ranks(lab: Lab, cluster: ClusterSpec, nodes: tuple[str, ...], command: str, count: int, **more: Any) -> GangSpec:
    gang = lab.gang("", nodes, cluster, **more)
    del gang.properties["customToolkitSettings"]
    gang.properties["customMpiSettings"] = {"commandLine": command, "processCount": count}
    return gang


def log_of(lab: Lab, cluster: ClusterSpec, gang: GangSpec, name: str = "stdout.txt") -> str:
    root = lab.engine.mount_root(cluster.uid)
    found = [path for path in Path(root or "/").rglob(name) if gang.job in str(path) and path.parent.name != "ranks"]
    return found[0].read_text() if found else ""


def described(lab: Lab, cluster: ClusterSpec, gang: GangSpec, status: GangStatus) -> str:
    return "\n".join(
        [str(status), *(log_of(lab, cluster, gang, f"{name}") for name in ("stderr.txt", "execution.log"))]
    )


def test_ranks_have_their_numbers_their_nodes_and_the_job_s_environment(
    slurm_site: Site, tmp_path: Path, pair: tuple[str, Mpi]
) -> None:
    kind, mpi = pair
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)

    async def told(lab: Lab, launcher: str) -> tuple[list[dict[str, Any]], GangStatus]:
        cluster = lab.cluster(options={"mpi": launcher})
        nodes = await lab.add_nodes(2, cluster)
        prepare = "echo export PREPARED=on-$(hostname) >> ~/.bashrc"
        gang = ranks(lab, cluster, nodes, f"{mpi.python} {script}", 4, secrets={"KEY": "s3cr3t"}, preparation=prepare)
        gang.properties["secrets"] = [{"name": "KEY"}]
        gang.properties["environmentVariables"] = [{"name": "MINE", "value": "of the job"}, *mpi.variables]
        await lab.engine.start_gang(gang)
        ended = await lab.end_of(gang.attempt_id)
        assert (ended.result, ended.exit_code) == (GangResult.SUCCEEDED, 0), described(lab, cluster, gang, ended)
        assert launcher == "runners" or log_of(lab, cluster, gang, "stderr.txt") == ""
        return [json.loads(line) for line in log_of(lab, cluster, gang).splitlines()], ended

    def own(rank: dict[str, Any]) -> dict[str, str]:
        """What neither Slurm nor a launcher of MPI has said."""
        found = {n: v for n, v in rank["environment"].items() if not n.startswith((*LAUNCHERS, *OF_THE_RUN))}
        job, attempt = (rank["environment"][f"TRAINSHED_{name}_ID"] for name in ("JOB", "ATTEMPT"))
        slurm = rank["environment"]["TRAINSHED_SLURM_JOB_ID"]
        # Of nodes that share a machine's directory all but one add their names.
        changes = [(f"/{slurm}-0(-n[0-9])?", "/OWN"), (attempt, "ATTEMPT"), (job, "JOB")]
        changes.append((rank["environment"]["AZ_BATCHAI_MOUNT_ROOT"], "MOUNTS"))
        changes += [(at, "ADDRESS") for at in rank["environment"]["AZ_BATCH_HOST_LIST"].split(",")]
        changes.append((f"\\b{rank['host']}\\b", "HOST"))
        for old, new in changes:
            found = {name: re.sub(old, new, value) for name, value in found.items()}
        return found

    async def body(lab: Lab) -> None:
        found, ended = await told(lab, kind)
        hosts = [host.partition("-")[2] for host in ended.hosts]
        assert [rank["rank"] for rank in found] == [0, 1, 2, 3]
        assert {(rank["size"], rank["sum"]) for rank in found} == {(4, 6)}
        assert [rank["host"] for rank in found] == [hosts[0], hosts[0], hosts[1], hosts[1]]
        assert all(mpi.library in rank["library"] for rank in found)
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK", "SLURM_PROCID", "PREPARED")
        assert [[rank["environment"].get(name) for name in names] for rank in found] == [
            [str(n), "4", str(n % 2), "2", str(n // 2), str(n), f"on-{hosts[n // 2]}"] for n in range(4)
        ]
        assert {rank["environment"]["KEY"] for rank in found} == {"s3cr3t"}
        others, _ = await told(lab, "runners")
        for rank, other in zip(found, others, strict=True):
            ours, theirs = own(rank), own(other)
            differ = {name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name)}
            assert {name: (ours.get(name), theirs.get(name)) for name in differ} == {}
            assert rank["user"] == other["user"]

    run_on(slurm_site, tmp_path, body)


def test_a_count_that_does_not_divide_is_spread_as_ever(slurm_site: Site, tmp_path: Path) -> None:
    nodes, count, spread = 3, 7, [3, 2, 2]

    async def body(lab: Lab) -> None:
        cluster = lab.cluster(options={"mpi": "pmi2"})
        taken = await lab.add_nodes(nodes, cluster)
        gang = ranks(lab, cluster, taken, "echo $RANK $PMI_RANK $LOCAL_RANK $LOCAL_WORLD_SIZE $HOSTNAME", count)
        await lab.engine.start_gang(gang)
        ended = await lab.end_of(gang.attempt_id)
        assert ended.result is GangResult.SUCCEEDED, described(lab, cluster, gang, ended)
        hosts = [host.partition("-")[2] for host in ended.hosts]
        places = [(host, local, size) for host, size in zip(hosts, spread, strict=True) for local in range(size)]
        wanted = [f"{rank} {rank} {local} {size} {host}" for rank, (host, local, size) in enumerate(places)]
        assert sorted(log_of(lab, cluster, gang).splitlines()) == wanted

    run_on(slurm_site, tmp_path, body)


def test_a_rank_that_fails_fails_the_job_with_its_code(slurm_site: Site, tmp_path: Path) -> None:
    async def body(lab: Lab) -> None:
        cluster = lab.cluster(options={"mpi": "pmi2"})
        nodes = await lab.add_nodes(2, cluster)
        name = mark()
        command = f"[ $RANK = 2 ] && {{ echo no >&2; exit 7; }}; exec -a {name} sleep 1000"
        gang = ranks(lab, cluster, nodes, command, 4)
        await lab.engine.start_gang(gang)
        ended = await lab.end_of(gang.attempt_id)
        assert (ended.result, ended.exit_code) == (GangResult.FAILED, 7), described(lab, cluster, gang, ended)
        assert ended.reason is not None and ended.reason.details["process"] == "rank 2"
        assert ended.reason.details["stdErrFile"] == "ranks/stderr-2.txt"
        assert living(name) == []

    run_on(slurm_site, tmp_path, body, setup=ALONE)


def test_a_rank_that_dies_in_the_middle_of_mpi_is_the_one_to_blame(slurm_site: Site, tmp_path: Path) -> None:
    """PMIx kills the step then, and the other ranks' wrappers with it."""
    skip_without(slurm_site, "pmix")
    mpi = open_mpi_4()
    script = tmp_path / "script.py"
    script.write_text(
        "import os, time\nfrom mpi4py import MPI\nMPI.COMM_WORLD.Barrier()\n"
        "MPI.COMM_WORLD.rank == 2 and os._exit(7)\ntime.sleep(600)\n"
    )

    async def body(lab: Lab) -> None:
        cluster = lab.cluster(options={"mpi": "pmix"})
        nodes = await lab.add_nodes(2, cluster)
        gang = ranks(lab, cluster, nodes, f"{mpi.python} {script}", 4)
        gang.properties["environmentVariables"] = mpi.variables
        await lab.engine.start_gang(gang)
        ended = await lab.end_of(gang.attempt_id)
        assert (ended.result, ended.exit_code) == (GangResult.FAILED, 7), described(lab, cluster, gang, ended)
        assert ended.reason is not None and ended.reason.details["process"] == "rank 2"

    run_on(slurm_site, tmp_path, body)


def facts(pid: int, name: str) -> str:
    with suppress(OSError):
        return (Path("/proc") / str(pid) / name).read_text(errors="replace")
    return ""


def parent_of(pid: int) -> int:
    return int(facts(pid, "stat").rpartition(")")[2].split()[1])


def srun_of_ranks() -> int:
    """Not the one that has started the runners."""
    pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]  # noqa: PTH208
    return min(p for p in pids if facts(p, "cmdline").startswith("srun\0") and "=ranks\0" in facts(p, "cmdline"))


def runner_of_ranks() -> int:
    """Of the first node: its child has become srun."""
    return parent_of(srun_of_ranks())


def keeper_of(rank: int) -> int:
    """What Slurm has started for it, outside of the job's namespaces: above the wrapper."""
    return parent_of(parent_of(rank))


@pytest.mark.parametrize("setup", ["", ALONE], ids=["namespaces", "none"])
def test_all_ranks_hear_of_the_end_and_say_their_last_words(slurm_site: Site, tmp_path: Path, setup: str) -> None:
    async def body(lab: Lab) -> None:
        cluster = lab.cluster(options={"mpi": "pmi2"})
        nodes = await lab.add_nodes(2, cluster)
        name = mark()
        command = (
            f"(exec -a {name} setsid sleep 1000) & "
            "trap 'sleep 0.5; echo $RANK saved; exit 3' TERM; echo $RANK up; while :; do sleep 0.02; done"
        )
        gang = ranks(lab, cluster, nodes, command, 4)
        await lab.engine.start_gang(gang)
        await eventually(lambda: log_of(lab, cluster, gang).count("up") == 4, "all ranks")
        await lab.engine.stop_gang(gang.attempt_id, STOP, 20.0)
        ended = await lab.end_of(gang.attempt_id)
        assert (ended.result, ended.reason) == (GangResult.STOPPED, STOP), described(lab, cluster, gang, ended)
        assert sorted(log_of(lab, cluster, gang).splitlines()[4:]) == [f"{rank} saved" for rank in range(4)]
        assert living(name) == []

    run_on(slurm_site, tmp_path, body, setup=setup)


def test_a_job_waits_for_a_controller_that_is_away_when_its_ranks_are_to_start(
    slurm_site: Site, tmp_path: Path
) -> None:
    async def body(lab: Lab) -> None:
        cluster = lab.cluster(options={"mpi": "pmi2"})
        nodes = await lab.add_nodes(2, cluster)
        going, go = tmp_path / "going", tmp_path / "go"
        prepare = f"touch {going}-$HOSTNAME; until [ -e {go} ]; do sleep 0.05; done"
        gang = ranks(lab, cluster, nodes, "echo $RANK of $WORLD_SIZE", 2, preparation=prepare)
        await lab.engine.start_gang(gang)
        await eventually(lambda: len(list(tmp_path.glob("going-*"))) == 2, "the preparation")
        slurm_site.kill("slurmctld")
        go.touch()
        await eventually(lambda: "master 0 started" in log_of(lab, cluster, gang, "execution.log"), "the launcher")
        slurm_site.start_controller()
        ended = await lab.end_of(gang.attempt_id)
        assert ended.result is GangResult.SUCCEEDED, described(lab, cluster, gang, ended)
        assert sorted(log_of(lab, cluster, gang).splitlines()) == ["0 of 2", "1 of 2"]

    run_on(slurm_site, tmp_path, body)


def test_nodes_without_a_shared_file_system(slurm_site: Site) -> None:
    async def body(lab: Lab) -> None:
        cluster = lab.cluster(options={"mpi": "pmi2"})
        nodes = await lab.add_nodes(2, cluster)
        gang = ranks(lab, cluster, nodes, "echo $RANK $PMI_RANK $HOSTNAME; [ $RANK != 3 ] || exit 9", 4)
        await lab.engine.start_gang(gang)
        ended = await lab.end_of(gang.attempt_id)
        assert (ended.result, ended.exit_code) == (GangResult.FAILED, 9), described(lab, cluster, gang, ended)
        hosts = [host.partition("-")[2] for host in ended.hosts]
        wanted = [f"{rank} {rank} {hosts[rank // 2]}" for rank in range(4)]
        assert sorted(log_of(lab, cluster, gang).splitlines()) == wanted

    run_afar(slurm_site, body)


def test_ranks_of_a_mapped_user_are_that_user_s(slurm_site: Site, home: Path) -> None:
    async def body(lab: Lab) -> None:
        cluster = lab.cluster(options={"mpi": "pmi2"})
        nodes = await lab.add_nodes(2, cluster)
        name = mark()
        command = f"echo $RANK $(id -un) $(hostname); [ $RANK = 3 ] && exit 5; exec -a {name} sleep 1000"
        gang = of(ranks(lab, cluster, nodes, command, 4), "ann")
        await lab.engine.start_gang(gang)
        ended = await lab.end_of(gang.attempt_id)
        assert (ended.result, ended.exit_code) == (GangResult.FAILED, 5), described(lab, cluster, gang, ended)
        hosts = [host.partition("-")[2] for host in ended.hosts]
        wanted = [f"{rank} games {hosts[rank // 2]}" for rank in range(4)]
        assert sorted(log_of(lab, cluster, gang).splitlines()) == wanted
        assert living(name) == []

    mapped(slurm_site, home, body)


@pytest.mark.parametrize("launcher", ["runners", "pmi2"])
def test_a_job_of_one_node(slurm_site: Site, tmp_path: Path, launcher: str) -> None:
    mpi = mpich()

    async def body(lab: Lab) -> None:
        cluster = lab.cluster(options={"mpi": launcher})
        nodes = await lab.add_nodes(1, cluster)
        gang = ranks(lab, cluster, nodes, "echo $RANK of $WORLD_SIZE $LOCAL_RANK $MPI_LOCALRANKID", 2)
        gang.properties["environmentVariables"] = mpi.variables
        await lab.engine.start_gang(gang)
        ended = await lab.end_of(gang.attempt_id)
        assert ended.result is GangResult.SUCCEEDED, described(lab, cluster, gang, ended)
        assert sorted(log_of(lab, cluster, gang).splitlines()) == ["0 of 2 0 0", "1 of 2 1 1"]

    run_on(slurm_site, tmp_path, body)


@pytest.mark.parametrize(
    ("kind", "ok", "said"),
    [
        ("pmi2", True, "srun --mpi=pmi2 starts ranks"),
        ("cray_shasta", False, "starts no ranks: the rank was told nothing"),
    ],
)
def test_doctor_has_srun_start_a_rank(slurm_site: Site, tmp_path: Path, kind: str, ok: bool, said: str) -> None:
    given = settings(tmp_path, cluster=f"mpi={kind}")
    check = {check.name: check for check in asyncio.run(examine(given, slurm_site.environment))}["mpi"]
    assert (check.ok, bool(check.mend)) == (ok, not ok) and said in check.detail
    assert ok or "pmi2" in check.detail.partition("Its plugins: ")[2]
    assert list((tmp_path / "shared").iterdir()) == []
    slurm_site.clear()


@pytest.mark.parametrize(("whom", "setup"), [("srun", ""), ("runner", ALONE), ("keeper of a rank", ALONE)])
def test_nothing_is_left_when_somebody_in_between_is_killed(
    slurm_site: Site, tmp_path: Path, setup: str, whom: str
) -> None:
    async def body(lab: Lab) -> None:
        cluster = lab.cluster(options={"mpi": "pmi2"})
        nodes = await lab.add_nodes(2, cluster)
        name = mark()
        gang = ranks(lab, cluster, nodes, f"exec -a {name} sleep 1000", 4)
        await lab.engine.start_gang(gang)
        await eventually(lambda: len(living(name)) == 4, "all ranks")
        rank = living(name)[-1]
        if whom == "srun":
            end_signal(srun_of_ranks())
        elif whom == "runner":
            end_signal(runner_of_ranks())
        else:
            end_signal(keeper_of(rank))
        ended = await lab.end_of(gang.attempt_id)
        assert ended.result is (GangResult.LOST if whom == "runner" else GangResult.FAILED), ended
        await eventually(lambda: living(name) == [], "the end of all ranks")

    run_on(slurm_site, tmp_path, body, setup=setup)


def test_a_warning_reaches_the_ranks_of_all_nodes_and_they_leave(slurm_site: Site, tmp_path: Path) -> None:
    async def body(lab: Lab) -> None:
        cluster = lab.cluster(options={"mpi": "pmi2"})
        nodes = await lab.add_nodes(2, cluster)
        command = "trap 'sleep 0.$RANK; echo $RANK warned; exit 3' USR1; echo up; while :; do sleep 0.02; done"
        gang = ranks(lab, cluster, nodes, command, 4)
        gang.properties["preemption"] = {"signal": "SIGUSR1", "gracePeriod": "PT1M"}
        await lab.engine.start_gang(gang)
        await eventually(lambda: log_of(lab, cluster, gang).count("up") == 4, "all ranks")
        (job,) = slurm_site.states()
        slurm_site.run("scancel", "--batch", "--signal=USR2", job)
        ended = await lab.end_of(gang.attempt_id)
        assert ended.reason is not None and ended.reason.code is ReasonCode.PREEMPTED, ended
        assert sorted(log_of(lab, cluster, gang).splitlines()[4:]) == [f"{rank} warned" for rank in range(4)]

    run_on(slurm_site, tmp_path, body, setup=ALONE)
