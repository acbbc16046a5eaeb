"""Whether ``srun`` starts ranks of MPI on the nodes, where the engine's clusters want that (``trainshed doctor``)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from trainshed.engines.checks import Check
from trainshed.engines.protocol import EngineUnavailable
from trainshed.engines.slurm.commands import Refused

#: What a rank is told by, and what it then prints.
_RANK = 'echo "started as rank $PMIX_RANK$PMI_RANK"'
_STARTED = "started as rank 0"
_NAME = "mpi"

#: What a script of a moment prints on a node; None when no node was free for it.
OnNode = Callable[[str], Awaitable[list[str] | None]]


async def whether_srun_starts_ranks(kind: str, on_node: OnNode) -> Check:
    """``kind``: the plugin of Slurm's. A list of it is not enough: it names plugins whose library is not there."""
    script = f"srun --overlap --ntasks=1 --mpi={kind} sh -c '{_RANK}' 2>&1; srun --mpi=list 2>&1"
    try:
        lines = await on_node(script)
    except (Refused, EngineUnavailable) as error:
        text = error.reason.text if isinstance(error, EngineUnavailable) else str(error)
        return Check(_NAME, False, f"not tried, Slurm did not take a job: {text[:200]}", "srun hostname", needed=False)
    if lines is None:
        return Check(_NAME, False, "not tried, no node was free for it", "srun hostname", needed=False)
    if _STARTED in lines:
        return Check(_NAME, True, f"srun --mpi={kind} starts ranks")
    said = next((line.strip() for line in lines if "error" in line), "the rank was told nothing")
    there = ", ".join(line.strip() for line in lines if line.startswith(("\t", " ")) and " " not in line.strip())
    return Check(
        _NAME, False, f"srun --mpi={kind} starts no ranks: {said}. Its plugins: {there or 'none'}", _mend(kind)
    )


def _mend(kind: str) -> str:
    wanted = f"Slurm's plugin mpi/{kind}"
    if kind.startswith("pmix"):
        wanted += " and the PMIx library that it loads (Debian: slurm-wlm-basic-plugins and libpmix-dev)"
    return f"install on all nodes {wanted}, and start slurmd there again; or leave mpi to the runners"
