"""Which MPI a node holds, told by ``mpirun --version`` in the job's environment (preparation may have installed it)."""

from __future__ import annotations

import re

from trainshed.runner.node import Node
from trainshed.toolkits.launch import MpiFlavor

_PROBE = "mpirun --version 2>&1 || mpiexec --version 2>&1"


def flavor_of(text: str) -> MpiFlavor | None:
    """The MPI that says this of itself; None for words that belong to none we know."""
    if "Intel(R) MPI" in text:
        return MpiFlavor.INTEL
    if "HYDRA" in text or "MPICH" in text:
        return MpiFlavor.MPICH
    found = re.search(r"\((?:Open MPI|OpenRTE|PRRTE)\)\s+(\d+)", text)
    if found or "Open MPI" in text:
        return MpiFlavor.OPEN_MPI_5 if found and int(found[1]) >= 5 else MpiFlavor.OPEN_MPI_4
    return None


def probe(node: Node) -> MpiFlavor | None:
    """Ask the node's mpirun."""
    return flavor_of(node.capture(_PROBE, 30.0).output)
